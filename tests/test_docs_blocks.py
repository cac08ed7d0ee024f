"""The code blocks of all pages: YAML that `check` accepts, commands that exist, Python that compiles and imports."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import cli
from lambda_fn import __main__ as lambda_fn_main
from tests.support.transcripts import Block, Shell, blocks, is_in_order

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "lambda_fn" / "README.md",
    ROOT / "benchmarks" / "README.md",
]
BLOCKS = [block for page in PAGES for block in blocks(page, ROOT)]
YAML = [block for block in BLOCKS if block.language == "yaml"]
PYTHON = [block for block in BLOCKS if block.language == "python"]
COMMANDS = [(block, command) for block in BLOCKS for command, _ in block.commands()]

PART = re.compile(r"# part of ")
WRONG = re.compile(r"# wrong: ")
"""What the first line of a YAML block says if it is no whole configuration, or one that `check` refuses."""

ELSEWHERE = {
    ".": "a shell's own",
    "aws": "needs an account on AWS",
    "bash": ".ci/run is CI itself",
    "cd": "a shell's own",
    "curl": "needs a function's URL; tests of URLs make the same requests",
    "/tmp/connect/bin/pip": "installs other projects to compare with",
    "docker": "needs an engine",
    "echo": "a shell's own",
    "eval": "a shell's own",
    "exec": "runs in a container on ECS",
    "export": "a shell's own",
    "git": "the clone is this checkout",
    "grpcurl": "tests/crossing/test_docs_transcripts.py runs it",
    "helm": "tests/test_clusters.py runs it where it is installed",
    "jq": "filters what a command of the bridge prints",
    "pip": "tests/crossing/test_new.py installs the packages",
    "pip-audit": "needs a network",
    "printf": "a shell's own",
    "sam": "needs an account on AWS",
    "sh": "runs a script of the page",
    "terraform": "needs an account on AWS",
    "zip": "is a part of a recipe for AWS",
}
"""Programs whose commands this file cannot judge, and why."""


@pytest.fixture(scope="module")
def descriptors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `protoc --descriptor_set_out` makes of orders.proto."""
    orders = ROOT / "tests" / "crossing" / "orders"
    made = tmp_path_factory.mktemp("descriptors") / "orders.binpb"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{orders}", "--include_imports"]
    subprocess.run([*command, f"--descriptor_set_out={made}", "orders.proto"], check=True, timeout=60)
    return made


@pytest.fixture
def folder(tmp_path: Path, descriptors: Path) -> Path:
    """A folder with the files that the examples name."""
    for name in ("tls.crt", "tls.key", "ca.crt", "client.crt", "client.key"):
        (tmp_path / name).touch()
    (tmp_path / "orders.binpb").write_bytes(descriptors.read_bytes())
    for name in ("rusty", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bootstrap").write_text("#!/bin/sh\n")
        (tmp_path / name / "bootstrap").chmod(0o755)
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "index.js").write_text("exports.handler = async (event) => event;\n")
    for name in ("app.py", "web.py"):
        (tmp_path / name).write_text("def handler(event, context):\n    return event\n")
    return tmp_path


def mark(block: Block) -> str:
    return block.text.partition("\n")[0]


@pytest.mark.parametrize("block", [b for b in YAML if not PART.match(mark(b)) and not WRONG.match(mark(b))], ids=str)
def test_yaml_is_a_configuration(
    block: Block, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check` accepts it. A part of a larger file says so in its first line: `# part of …`."""
    monkeypatch.setenv("KEY", "k")
    monkeypatch.setenv("HOST_IP", "10.0.0.1")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    (folder / "bridge.yaml").write_text(block.text)

    assert 0 == cli.main(["check", str(folder / "bridge.yaml")]), capsys.readouterr()


@pytest.mark.parametrize("block", [b for b in YAML if WRONG.match(mark(b))], ids=str)
def test_yaml_that_is_shown_as_wrong_is_refused(block: Block, folder: Path) -> None:
    (folder / "bridge.yaml").write_text(block.text)

    assert 2 == cli.main(["check", str(folder / "bridge.yaml")])


def test_yaml_blocks_are_found() -> None:
    assert len(YAML) > 20
    assert any(WRONG.match(mark(block)) for block in YAML)


# -- commands ----------------------------------------------------------------------------------------------------------


def simple_commands(line: str) -> Iterator[list[str]]:
    """Yield the words of each command of a line: those that `&&`, `||`, `;` or `|` part, without comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if re.fullmatch(r"[&|;]+", word):
            yield words
            words = []
        else:
            words.append(word)
    yield words


def own_commands() -> Iterator[tuple[str, list[str]]]:
    for block, line in COMMANDS:
        for words in simple_commands(re.sub(r"\w+=\$\(", "", line)):
            plain = [word for word in words if not re.match(r"[A-Z_]+=", word)]
            until = next((at for at, word in enumerate(plain) if word in ("<", ">", ">>")), len(plain))
            yield str(block), plain[:until]


OWN = [(at, words) for at, words in own_commands() if words]
BRIDGE = [(at, words[1:]) for at, words in OWN if words[0].endswith("grpc-lambda-bridge")]


@pytest.mark.parametrize(
    ("at", "words"), BRIDGE, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_commands_of_the_bridge_have_these_flags(at: str, words: list[str]) -> None:
    told = io.StringIO()
    code: object = 0
    with contextlib.redirect_stderr(told):
        try:
            cli.parse(words)
        except SystemExit as end:  # --help ends, too
            code = end.code

    assert 0 == code, f"{at}: {' '.join(words)}: {told.getvalue()}"


def test_make_has_the_targets_that_pages_name() -> None:
    named = {word for _, words in OWN if words[0] == "make" for word in words[1:] if re.fullmatch(r"[a-z-]+", word)}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert {"run", "test"} <= named | {"test"}
    assert set() == named - targets - {"bridge"}


def test_modules_that_pages_run_exist() -> None:
    modules = {words[words.index("-m") + 1] for _, words in OWN if "-m" in words and "python" in words[0]}

    assert "lambda_fn" in modules
    assert set() == {name for name in modules if importlib.util.find_spec(name) is None} - {"venv", "pip"}


def test_every_other_program_has_a_reason_not_to_be_judged_here() -> None:
    programs = {words[0] for _, words in OWN}
    judged = {name for name in programs if name == "make" or "python" in name or name.endswith("grpc-lambda-bridge")}

    assert set() == programs - judged - set(ELSEWHERE)


def test_flags_of_lambda_fn_exist() -> None:
    known = lambda_fn_main._parser().format_help()
    flags = {word for _, words in OWN if "lambda_fn" in words for word in words if word.startswith("--")}

    assert {"--grpc"} <= flags
    assert [] == [flag for flag in flags if flag not in known]


# -- Python ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_imports_names_that_exist(block: Block) -> None:
    """Those of this project and of its libraries. Generated code and the reader's own modules are not here."""
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("lambda_fn", "grpc"):
            module = importlib.import_module(node.module)
            assert [] == [alias.name for alias in node.names if not hasattr(module, alias.name)]


# -- how transcripts are compared --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "output", "is_as_shown"),
    [
        (["one", "two"], "one\nmore\n  two\n", True),
        (["two", "one"], "one\ntwo\n", False),
        (["one", "one"], "one\n", False),
        (["a b"], "a    b c\n", True),
        (["… MB, for …"], "8.9 MB, for python3.13\n", True),
        (["[1-9]"], "5\n", False),
        ([], "", True),
    ],
)
def test_output_is_compared_line_by_line_in_order(wanted: list[str], output: str, is_as_shown: bool) -> None:
    assert is_as_shown is is_in_order(wanted, output)


def shell_block(text: str) -> Block:
    return Block("page.md", 1, "console", "", text)


def test_a_transcript_with_another_output_or_exit_code_fails(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"PATH": "/usr/bin:/bin"}, rewrite=str)
    try:
        shell.follow(shell_block("$ cd /\n$ pwd\n/\n"), skip=())
        shell.follow(shell_block("$ missing\n"), skip=("missing",))
        with pytest.raises(AssertionError, match="and not"):
            shell.follow(shell_block("$ echo one\ntwo\n"), skip=())
        with pytest.raises(AssertionError, match="exit code 3"):
            shell.follow(shell_block("$ (exit 3)\n"), skip=())
    finally:
        shell.close()
