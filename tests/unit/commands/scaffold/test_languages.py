"""What `new` writes for Node.js, Go and Rust, without their tools. tests/crossing/test_new.py builds and calls it."""

from __future__ import annotations

import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from bridge.cli import main
from bridge.commands.scaffold import go, node, rust
from bridge.commands.scaffold.interface import Interface, read_interface
from bridge.config.load import load
from bridge.config.schema import Config
from tests.support.scaffolds import BARE, ODD_NAMES, written

ROOT = Path(__file__).parents[4]
TEXTS: dict[str, Callable[..., dict[str, str]]] = {"node": node.texts_of, "go": go.texts_of, "rust": rust.texts_of}
METHODS = {"node": "index.js", "go": "function.go", "rust": "src/main.rs"}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Interface:
    return read_interface(written(tmp_path_factory.mktemp("odd"), ODD_NAMES))


def config_of(folder: Path, texts: dict[str, str]) -> Config:
    written(folder, texts)
    return load(folder / "bridge.yaml", environ={})


@pytest.mark.parametrize("language", TEXTS)
def test_the_folder_is_whole(tmp_path: Path, odd: Interface, language: str) -> None:
    """The configuration loads, with a route for each service. Each .proto is there, also those of others."""
    texts = TEXTS[language]("orders", odd, greets=False)
    config = config_of(tmp_path, texts)

    assert ["orders"] == list(config.functions)
    routes = yaml.safe_load(texts["bridge.yaml"])["services"]
    assert {service.full_name: "local:orders" for service in odd.services} == routes
    assert {f"proto/{name}" for name in ODD_NAMES} < texts.keys()
    assert {"third_party/google/api/annotations.proto", "third_party/google/type/money.proto"} < texts.keys()
    assert texts["README.md"].count("\n") < 20
    assert "full duplex" in texts["README.md"]


@pytest.mark.parametrize("language", ["go", "rust"])
def test_what_is_built_is_followed_and_packed_though_git_ignores_it(
    tmp_path: Path, odd: Interface, language: str
) -> None:
    texts = TEXTS[language]("orders", odd, greets=False)
    function = config_of(tmp_path, texts).functions["orders"]

    assert "/bootstrap" in texts[".gitignore"].splitlines()
    assert ("./bootstrap",) == function.command
    assert function.reload is not None
    assert ("bootstrap",) == function.reload.include == function.package.include


@pytest.mark.parametrize("language", TEXTS)
def test_each_rpc_has_a_method_and_a_test(odd: Interface, language: str) -> None:
    texts = TEXTS[language]("orders", odd, greets=False)
    rpcs = [method.name for service in odd.services for method in service.methods]
    hints = re.findall(r"// Write here what (\w+) does", texts[METHODS[language]])
    tests = {
        "node": lambda: re.findall(r'^test\("', texts["index.test.js"], re.MULTILINE),
        "go": lambda: re.findall(r"^func Test", texts["function_test.go"], re.MULTILINE),
        "rust": lambda: re.findall(r"#\[tokio::test\]", texts["src/main.rs"]),
    }[language]()

    named = [go.go_name(name) for name in rpcs] if language == "go" else rpcs
    assert named == hints
    assert len(rpcs) == len(tests)


@pytest.mark.parametrize(
    ("language", "signatures"),
    [
        (
            "go",
            [
                "Get(ctx context.Context, request *ordersofpb.GetRequest) (*ordersofpb2.Order, error)",
                "Watch(ctx context.Context, request *ordersofpb.GetRequest, stream *connect.ServerStream[",
                "Upload(ctx context.Context, stream *connect.ClientStream[ordersofpb2.Order]) (*emptypb.Empty, error)",
                "Chat(ctx context.Context, stream *connect.BidiStream[ordersofpb.GetRequest, moneypb.Money]) error",
                '"orders/gen/acme/internal_/moneypb"',
                '"google.golang.org/genproto/googleapis/type/money"',
                "In: ordersofpb2.Order_OPEN.Enum()",
            ],
        ),
        (
            "node",
            [
                "async get(request, context) {",
                "async *watch(request, context) {",
                "async upload(requests, context) {",
                "async *chat(requests, context) {",
                "async constructor$(request, context) {",
                "router.service(handlerService, {",
                "router.service(class$, {",
                '{ from: { text: "" }, in: 3, toString$: new Uint8Array(), string: 0, top2b: 1 }',
            ],
        ),
        (
            "rust",
            [
                "async fn r#match(",
                "type get_all_2xStream = Replies<proto::acme::r#type::v1::Type>;",
                "Request<Streaming<proto::acme::r#type::v1::Order>>",
                "-> Result<Response<()>, Status> {",
                "Replies<proto::acme::r#type::v1::order::Line>;",
                "impl proto::acme::r#type::v1::handler_server::Handler for HandlerService {",
                "proto::google::r#type::Money",
            ],
        ),
    ],
    ids=["go", "node", "rust"],
)
def test_the_methods_have_the_names_of_the_generated_code(odd: Interface, language: str, signatures: list[str]) -> None:
    """All four kinds, keywords, nested messages, well-known types, and files whose names look alike."""
    text = TEXTS[language]("orders", odd, greets=False)[METHODS[language]]

    assert [] == [signature for signature in signatures if signature not in text]


@pytest.mark.parametrize("language", TEXTS)
def test_a_file_without_a_package(tmp_path: Path, language: str) -> None:
    texts = TEXTS[language]("bare", read_interface(written(tmp_path, BARE)), greets=False)

    assert "  Bare: local:bare\n" in texts["bridge.yaml"]
    assert "grpc-lambda-bridge call Bare/Go '{}'" in texts["README.md"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("language", "lines"),
    [
        ("node", ["Handler: index.handler", "Runtime: nodejs22.x"]),
        ("go", ["Handler: bootstrap", "Runtime: provided.al2023", "BuildMethod: go1.x"]),
        ("rust", ["Handler: bootstrap", "Runtime: provided.al2023", "BuildMethod: makefile"]),
    ],
)
def test_the_template_builds_the_language(tmp_path: Path, odd: Interface, language: str, lines: list[str]) -> None:
    template = TEXTS[language]("orders", odd, greets=False)["template.yaml"]
    cfn_lint = ROOT / ".cache/tools/lint/bin/cfn-lint"

    assert [] == [line for line in lines if f" {line}\n" not in template]
    if cfn_lint.exists():
        (tmp_path / "template.yaml").write_text(template)
        lint = subprocess.run([cfn_lint, tmp_path / "template.yaml"], capture_output=True, text=True)
        assert (0, "") == (lint.returncode, lint.stdout)


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("language", "there", "text"),
    [
        ("go", (), "go is not on the PATH: install Go 1.26 or later from https://go.dev/dl/"),
        ("rust", (), "cargo is not on the PATH: install Rust 1.88 or later from https://rustup.rs"),
        ("node", (), "node is not on the PATH: install Node.js 20 or later from https://nodejs.org"),
        ("node", ("node",), "npm is not on the PATH: install npm, which comes with Node.js"),
    ],
)
def test_a_missing_tool_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    language: str,
    there: tuple[str, ...],
    text: str,
) -> None:
    """With where it comes from. Nothing is written."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in there:
        program(tools, name, "exit 0")
    monkeypatch.setenv("PATH", str(tools))

    assert 1 == main(["new", str(tmp_path / "greeter"), "--language", language])
    assert text in capsys.readouterr().err
    assert not (tmp_path / "greeter").exists()


def test_a_tool_that_fails_is_quoted_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as npm without a network."""
    tools = tmp_path / "bin"
    tools.mkdir()
    program(tools, "node", "exit 0")
    program(tools, "npm", "echo npm error network request failed >&2; exit 7")
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = sorted(tmp_path.rglob("*"))

    assert 1 == main(["new", str(tmp_path / "greeter"), "--language", "node"])
    error = capsys.readouterr().err
    assert "ended with exit code 7; nothing was written:\n  npm error network request failed\n" in error
    assert before == sorted(tmp_path.rglob("*"))


@pytest.mark.parametrize("language", TEXTS)
def test_an_existing_folder_is_refused_before_tools_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], language: str
) -> None:
    """The message says what to do."""
    program(tmp_path, "go", "exit 1")
    program(tmp_path, "node", "exit 1")
    program(tmp_path, "npm", "exit 1")
    program(tmp_path, "cargo", "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "greeter").mkdir()
    (tmp_path / "greeter/README.md").write_text("mine")

    assert 1 == main(["new", str(tmp_path / "greeter"), "--language", language])
    assert "/README.md\nChoose another name, or move these files away\n" in capsys.readouterr().err


def test_a_service_that_javascript_cannot_name(tmp_path: Path) -> None:
    text = 'syntax = "proto3";\nservice await { rpc M(E) returns (E); }\nmessage E {}\n'
    interface = read_interface(written(tmp_path, {"a.proto": text}))

    with pytest.raises(Exception, match="a service named 'await'; rename the service"):
        node.texts_of("a", interface, greets=False)
