"""What `check` finds and how it prints it, in process."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge import cli
from bridge.commands.aws_region import region_of

Check = Callable[..., tuple[int, str, str]]

BROKEN = """\
services:
  a.B: {target: local:f, timout: 5s}
  c.D: local:g
functions:
  f: {handler: app.handler, memory: lots}
"""


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """Writes bridge.yaml and checks it: the exit code, and both outputs."""
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "BRIDGE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(text: str, *arguments: str) -> tuple[int, str, str]:
        (tmp_path / "bridge.yaml").write_text(text)
        code = cli.main(["check", *arguments])
        return code, *capsys.readouterr()

    return run


def told(text: str) -> list[str]:
    """The findings without their source lines."""
    return [line for line in text.splitlines() if line.startswith(("bridge.yaml", "/", "<stdin>"))]


# -- how it is printed -------------------------------------------------------------------------------------------------


def test_a_problem_has_line_column_and_a_marker(check: Check) -> None:
    code, out, err = check(BROKEN)

    assert (2, "") == (code, out)
    assert (
        'bridge.yaml:2:26: error: services.a.B.timout: unknown key, did you mean "timeout"?\n'
        "  |\n"
        "2 |   a.B: {target: local:f, timout: 5s}\n"
        "  |                          ^^^^^^\n"
    ) in err
    assert ["bridge.yaml:2:26", "bridge.yaml:3:3", "bridge.yaml:5:29"] == [
        line.partition(": error")[0] for line in told(err)
    ]
    assert err.endswith("3 problems\n")


def test_json(check: Check) -> None:
    code, out, err = check(BROKEN, "-o", "json")
    first = json.loads(out)[0]

    assert (2, "") == (code, err)
    assert {
        "severity": "error",
        "file": "bridge.yaml",
        "line": 2,
        "column": 26,
        "end_column": 32,
        "key": "services.a.B.timout",
        "message": 'unknown key, did you mean "timeout"?',
    } == first
    assert (0, "[]\n") == check("services: {a.B: null}", "-o", "json")[:2]


def test_github(check: Check) -> None:
    _, out, _ = check("services: {a.B: 'local:50%,x'}", "-o", "github")
    lines = check(BROKEN, "-o", "github")[1].splitlines()

    assert (
        '::error file=bridge.yaml,line=2,col=26,endColumn=32::services.a.B.timout: unknown key, did you mean "timeout"?'
        == lines[0]
    )
    assert "50%25,x" in out


def test_sarif(check: Check) -> None:
    [run] = json.loads(check(BROKEN, "-o", "sarif")[1])["runs"]
    first: dict[str, Any] = run["results"][0]

    assert "grpc-lambda-bridge" == run["tool"]["driver"]["name"]
    assert "error" == first["level"]
    assert {"startLine": 2, "startColumn": 26, "endColumn": 32} == first["locations"][0]["physicalLocation"]["region"]


def test_a_warning_is_no_error(check: Check) -> None:
    code, out, err = check("drain: 5s")

    assert (0, "bridge.yaml: fine, 0 service entries\n") == (code, out)
    assert ["bridge.yaml: warning: services: none, so every call is UNIMPLEMENTED"] == told(err)
    assert ["warning"] == [each["severity"] for each in json.loads(check("drain: 5s", "-o", "json")[1])]


def test_a_file_and_standard_input(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.yaml").write_text("service: {}")
    monkeypatch.setattr("sys.stdin", io.StringIO("services:\n  a.B: lokal:f\n"))

    assert check("services: {a.B: null}", "other.yaml")[2].startswith("other.yaml:1:1: error: service: unknown key")
    code, _, err = check("services: {a.B: null}", "-")
    assert 2 == code
    assert err.startswith("<stdin>:2:3: error: services.a.B: ")
    assert "2 |   a.B: lokal:f\n" in err


@pytest.mark.parametrize(
    "text",
    [
        "services:\n  a.B:\n    target: https://h\n    headers:\n      authorization: [hunter2]\n",
        "services:\n  a.B: {target: 'https://h', headers: {authorization: hunter2}, timout: 1s}\n",
        "services: {a.B: null}\nfunctions:\n  f:\n    handler: a.b\n    env:\n      bad-name: hunter2\n",
        "services:\n  a.B:\n    target: https://h\n    headers:\n      authorization: 'hunter2\n",
    ],
    ids=["headers", "beside headers", "env", "not YAML"],
)
def test_a_line_that_may_hold_a_secret_is_not_shown(check: Check, text: str) -> None:
    for output in ("text", "json", "github", "sarif"):
        code, out, err = check(text, "-o", output)

        assert 2 == code
        assert "hunter2" not in out + err


def test_yaml_that_cannot_be_read_has_a_column(check: Check) -> None:
    assert check("services:\n  a.B: [\n")[2].startswith("bridge.yaml:3:1: error: not YAML: ")


# -- regions -----------------------------------------------------------------------------------------------------------


def test_a_function_without_a_region_is_refused(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "services: {a.B: 'function:f', c.D: 'arn:aws:lambda:eu-west-1:123456789012:function:f'}"
    code, _, err = check(text)

    assert 2 == code
    [line] = told(err)
    assert line.startswith("bridge.yaml:1:12: error: services.a.B: no region is known: set aws.region or AWS_REGION")
    assert 0 == check(text + "\naws: {region: eu-west-1}")[0]
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert 0 == check(text)[0]


def test_serve_refuses_it_too(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    check("services: {a.B: 'function:f'}")

    assert 2 == cli.main(["serve"])
    assert "services.a.B: no region is known" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("profile", "environ", "expected"),
    [
        (None, {}, "eu-west-1"),
        ("b c", {}, "us-east-2"),
        ("none", {}, None),
        ("kept", {}, "ap-south-1"),
        (None, {"AWS_PROFILE": "b c"}, "us-east-2"),
        ("b c", {"AWS_DEFAULT_REGION": "x"}, "x"),
        (None, {"AWS_CONFIG_FILE": "/nowhere"}, None),
    ],
)
def test_regions_are_found_as_botocore_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str | None, environ: dict[str, str], expected: str | None
) -> None:
    import botocore.session

    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(
        '[default]\nregion = eu-west-1\n[profile "b c"]\nregion=us-east-2\n[profile none]\noutput = json\n'
    )
    (tmp_path / ".aws" / "credentials").write_text("[kept]\nregion = ap-south-1\naws_access_key_id = a\n")
    whole = {"HOME": str(tmp_path), **environ}
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in whole.items():
        monkeypatch.setenv(name, value)

    assert expected == region_of(profile, whole)
    assert expected == botocore.session.Session(profile=profile).get_config_variable("region")


# -- functions ---------------------------------------------------------------------------------------------------------


def function(settings: str) -> str:
    return f"services: {{a.B: local:f}}\nfunctions:\n  f: {{{settings}}}\n"


@pytest.mark.parametrize(
    ("source", "attribute"),
    [
        ("def handler(e, c): ...", "handler"),
        ("async def handler(e, c): ...", "handler"),
        ("from x import y as handler", "handler"),
        ("handler = 1", "handler"),
        ("a, handler = 1, 2", "handler"),
        ("if True:\n  handler = 1", "handler"),
        ("try:\n  import handler\nexcept ImportError:\n  handler = None", "handler"),
        ("with x as handler: pass", "handler"),
        ("from x import *", "anything"),
        ("globals()['anything'] = 1", "anything"),
        ("def __getattr__(name): ...", "anything"),
    ],
)
def test_a_handler_that_is_there(check: Check, tmp_path: Path, source: str, attribute: str) -> None:
    (tmp_path / "app.py").write_text(source)

    assert (0, "") == check(function(f"handler: app.{attribute}"))[::2]


def test_a_handler_in_javascript(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.js").touch()
    (tmp_path / "node").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert (0, "") == check(function("handler: index.handler"))[::2]
    (tmp_path / "node").unlink()
    assert "no program node on PATH" in check(function("handler: index.handler"))[2]


def test_the_examples_are_found_on_the_path(check: Check) -> None:
    assert 0 == check(function("handler: lambda_fn.examples.greeter.handler"))[0]


@pytest.mark.parametrize(
    ("settings", "place", "message"),
    [
        ("handler: app.handlr", "bridge.yaml:3:7", 'app.py defines no handlr, did you mean "handler"?'),
        (
            "handler: ap.handler",
            "bridge.yaml:3:7",
            'there is no module ap: {0}/ap.py is not there, did you mean "app.py"?',
        ),
        ("handler: pkg.mod.handler", "bridge.yaml:3:7", "there is no module pkg.mod"),
        ("handler: index.handler, runtime: lambda_fn", "bridge.yaml:3:7", "index.js needs runtime: node"),
        ("handler: idx.handler, runtime: node", "bridge.yaml:3:7", "there is no script {0}/idx.js, .mjs or .cjs"),
        ("handler: tsmod.handler", "bridge.yaml:3:7", "tsmod.ts needs command, a program that"),
        ("handler: broken.handler", "{0}/broken.py:2:10", "not Python: "),
        ("command: [./bootstrap]", "bridge.yaml:3:7", "{0}/bootstrap is not executable: chmod +x {0}/bootstrap"),
        ("command: [./botstrap]", "bridge.yaml:3:7", '{0}/botstrap is not there, did you mean "bootstrap"?'),
        ("command: [./folder]", "bridge.yaml:3:7", "is a folder, not a program"),
        ("command: [./script]", "bridge.yaml:3:7", "begins with #!/no/such/python, which is not there"),
        ("command: [./windows]", "bridge.yaml:3:7", "line ends of Windows"),
        ("command: [no-such-program]", "bridge.yaml:3:7", "no program no-such-program on PATH"),
        ("handler: app.handler, python: no-python", "bridge.yaml:3:29", "no program no-python on PATH"),
        ("web: {command: [./nope]}", "bridge.yaml:3:7", "/nope is not there"),
    ],
)
def test_a_function_that_cannot_start(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str, place: str, message: str
) -> None:
    (tmp_path / "app.py").write_text("def handler(event, context): ...\n")
    (tmp_path / "broken.py").write_text("def handler():\n  return (\n")
    (tmp_path / "index.js").touch()
    (tmp_path / "tsmod.ts").touch()
    (tmp_path / "node").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "folder").mkdir()
    (tmp_path / "bootstrap").touch()
    for name, first in (("script", "#!/no/such/python"), ("windows", "#!/bin/sh\r")):
        (tmp_path / name).write_text(f"{first}\n", newline="")
        (tmp_path / name).chmod(0o755)
    code, _, err = check(function(settings))
    [line] = [line for line in err.splitlines() if ": error: " in line]

    assert 2 == code
    assert line.startswith(place.format(tmp_path))
    assert message.format(tmp_path) in line


def test_descriptors_that_cannot_be_read_are_said(check: Check, tmp_path: Path) -> None:
    (tmp_path / "set.binpb").write_bytes(b"nonsense")
    code, _, err = check("services:\n  a.B: {target: 'https://h', descriptors: set.binpb}\n")

    assert 2 == code
    assert "bridge.yaml:2:30: error: services.a.B.descriptors: " in err


@pytest.mark.parametrize("command", ["serve", "emulate", "routes", "iam", "invoke f", "call --target local:f a.A/Go"])
def test_every_command_prints_the_problems_as_check_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """With the line, the column and a marker."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bridge.yaml").write_text(
        "services:\n  a.A: local:nope\nfunctions:\n  f: {handler: app.handler, codde: x}\n"
    )
    assert 2 == cli.main(["check"])
    *found, count = capsys.readouterr().err.splitlines()

    assert 2 == cli.main(command.split())
    *told, last = capsys.readouterr().err.splitlines()
    assert found == told
    assert "  |   ^^^" in told
    assert last.startswith(count)
