"""The command `new`: a folder with a function, from nothing or from a .proto."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bridge.cli import main
from bridge.config.load import load
from tests.support.scaffolds import written

ROOT = Path(__file__).parents[3]

ORDERS = {
    "acme/orders/v1/orders.proto": """
        syntax = "proto3";
        package acme.orders.v1;
        import "acme/common/money.proto";
        import public "acme/orders/v1/types-of.proto";
        import "google/protobuf/empty.proto";
        import "google/api/annotations.proto";

        // What orders are made of.
        service Orders {
          rpc Get(GetRequest) returns (Order) { option (google.api.http) = {get: "/v1/{id}"}; }
          rpc Watch(GetRequest) returns (stream Order.Line);
          rpc Upload(stream Order) returns (google.protobuf.Empty);
          rpc Chat(stream GetRequest) returns (stream acme.common.Money);
        }
        service LambdaServer { rpc Kinds(acme.orders.v1.Kind) returns (Kind); }
        service Nothing {}
        message GetRequest { string id = 1; }
    """,
    "acme/orders/v1/types-of.proto": """
        syntax = "proto2";
        package acme.orders.v1;
        message Order {
          message Line { required string text = 1; }
          enum State { OPEN = 3; CLOSED = 4; }
          required Line from = 1;
          required State state = 2;
          required bytes data = 3;
          required double price = 4;
          optional Order parent = 5;
        }
        message Kind { required bool is_new = 1; required int64 count = 2; }
    """,
    "acme/common/money.proto": """
        syntax = "proto3";
        package acme.common;
        message Money { int64 units = 1; }
    """,
}


def run_tests(folder: Path) -> str:
    """As the folder's README says, with what this checkout has."""
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "lambda_fn.testing.pytest"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "no:asyncio"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert 0 == result.returncode, result.stdout + result.stderr
    return result.stdout


@pytest.mark.real_clock
def test_a_new_function_passes_its_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was written is listed, and what to do next."""
    assert 0 == main(["new", str(tmp_path / "say-hello")])
    folder = tmp_path / "say-hello"
    listed = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]

    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == sorted(listed[: len(files)])
    assert f"cd {folder}" == listed[len(files)]
    assert "1 passed" in run_tests(folder)
    config = load(folder / "bridge.yaml", environ={})
    assert ["say-hello"] == list(config.functions)
    assert "say_hello.SayHello: local:say-hello" in (folder / "bridge.yaml").read_text()


@pytest.mark.real_clock
def test_a_proto_becomes_a_servicer_with_every_rpc(tmp_path: Path) -> None:
    """All four kinds; messages of other files, nested ones, required fields, names that Python has for itself."""
    proto = written(tmp_path / "protos", ORDERS)
    assert 0 == main(["new", str(tmp_path / "orders"), "--proto", str(proto)])
    folder = tmp_path / "orders"

    assert set(ORDERS) == {path.relative_to(folder).as_posix() for path in folder.rglob("*.proto")}
    assert "5 passed" in run_tests(folder)
    code = (folder / "app.py").read_text()
    assert ["Get", "Watch", "Upload", "Chat", "Kinds"] == [
        line.split("(")[0].removeprefix("    def ") for line in code.splitlines() if line.startswith("    def ")
    ]
    assert "googleapis-common-protos" in (folder / "requirements.txt").read_text()


def test_the_generated_code_is_made_again_by_its_script(tmp_path: Path) -> None:
    """It makes the same bytes, with files of googleapis, too."""
    proto = written(tmp_path / "protos", ORDERS)
    main(["new", str(tmp_path / "orders"), "--proto", str(proto)])
    folder = tmp_path / "orders"
    generated = {path: path.read_bytes() for path in folder.rglob("*_pb2*.py*")}
    for path in generated:
        path.unlink()
    places = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["sh", str(folder / "generate.sh")], env=os.environ | {"PATH": places}, check=True, timeout=60)

    assert 9 == len(generated)
    assert generated == {path: path.read_bytes() for path in folder.rglob("*_pb2*.py*")}


def test_the_template_and_the_route_name_the_function(tmp_path: Path) -> None:
    main(["new", str(tmp_path / "greeter")])
    template = (tmp_path / "greeter/template.yaml").read_text()
    cfn_lint = ROOT / ".cache/tools/lint/bin/cfn-lint"

    assert "FunctionName: greeter\n" in template
    assert "Handler: app.handler\n" in template
    if cfn_lint.exists():
        lint = subprocess.run([cfn_lint, tmp_path / "greeter/template.yaml"], capture_output=True, text=True)
        assert (0, "") == (lint.returncode, lint.stdout)


def test_a_folder_named_app_keeps_its_name(tmp_path: Path) -> None:
    """The module with the handler gets another one."""
    text = 'syntax = "proto3"; package app.v1; service S { rpc M(E) returns (E); } message E {}'
    proto = written(tmp_path / "protos", {"app/v1/s.proto": text.replace("; ", ";\n")})
    main(["new", str(tmp_path / "s"), "--proto", str(proto)])

    assert (tmp_path / "s/function.py").is_file()
    assert "handler: function.handler" in (tmp_path / "s/bridge.yaml").read_text()
    assert yaml.safe_load((tmp_path / "s/bridge.yaml").read_text())["services"] == {"app.v1.S": "local:s"}


def test_no_file_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written then: neither over files, nor over links."""
    folder = tmp_path / "greeter"
    folder.mkdir()
    (folder / "app.py").write_text("mine")
    (folder / "README.md").symlink_to(tmp_path / "elsewhere")

    assert 1 == main(["new", str(folder)])
    assert f"files exist: {folder}/README.md, {folder}/app.py\n" in capsys.readouterr().err
    assert {"app.py", "README.md"} == {path.name for path in folder.iterdir()}
    assert "mine" == (folder / "app.py").read_text()
    assert not (tmp_path / "elsewhere").exists()


def test_a_proto_in_the_folder_itself_stays_as_it_is(tmp_path: Path) -> None:
    """An author may have begun with it. What else is in the folder stays, too."""
    text = 'syntax = "proto3";\nservice S { rpc M(E) returns (E); }\nmessage E {}\n'
    proto = written(tmp_path / "s", {"s.proto": text, "notes.txt": "mine"})

    assert 0 == main(["new", str(tmp_path / "s"), "--proto", str(proto)])
    assert text == proto.read_text()
    assert (tmp_path / "s/app.py").is_file()


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"a.proto": 'syntax = "proto3";\nmessage E {}\n'}, "declares no service"),
        ({"a.proto": 'syntax = "proto3";\nservice S { rpc M(E) returns (E); }\n'}, 'a.proto:2:31: "E" is not defined'),
        ({"a.proto": 'syntax = "proto3";\nimport "b/c.proto";\nservice S {}\n'}, "b/c.proto: File not found"),
        (
            {"class/v1/a.proto": 'syntax = "proto3";\npackage class.v1;\nservice S {}\n'},
            "class/v1/a.proto: Python cannot import generated code from a folder named 'class'",
        ),
        (
            {"a.proto": 'syntax = "proto3";\nservice S { rpc import(E) returns (E); }\nmessage E {}\n'},
            "the name of the rpc 'import' is a keyword; rename the rpc",
        ),
        (
            {"a.proto": 'syntax = "proto3";\nservice class { rpc M(E) returns (E); }\nmessage E {}\n'},
            "the name of the service 'class' is a keyword; rename the service",
        ),
        (
            {"grpc/v1/a.proto": 'syntax = "proto3";\npackage grpc.v1;\nservice S {}\n'},
            "Python would import its own package 'grpc' in place of the folder",
        ),
    ],
    ids=["no service", "undefined", "missing import", "keyword", "rpc", "service", "package"],
)
def test_a_proto_that_will_not_do_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str], text: str
) -> None:
    """With the place in the file. Nothing is written."""
    proto = written(tmp_path / "protos", files)

    assert 2 == main(["new", str(tmp_path / "it"), "--proto", str(proto)])
    assert text in capsys.readouterr().err
    assert not (tmp_path / "it").exists()


@pytest.mark.parametrize("name", ["1st", "a.b", "é", "a b", "x" * 65])
def test_a_name_that_lambda_does_not_take_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """The message says what a name may have."""
    assert 2 == main(["new", str(tmp_path / name)])
    assert "letters, digits, - and _" in capsys.readouterr().err
    assert [] == list(tmp_path.iterdir())


def test_a_missing_proto_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == main(["new", str(tmp_path / "a"), "--proto", str(tmp_path / "none.proto")])
    assert "none.proto: no such file" in capsys.readouterr().err
