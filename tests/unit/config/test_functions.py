from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config.schema import Debug, FunctionConfig, FunctionUrl, Reload, WebFunctionConfig
from bridge.rpc.limits import MIB
from tests.support.configured import configured, problems


def test_the_shortest_function_is_a_handler() -> None:
    """Its code is the file's folder."""
    config = configured("functions: {echo: {handler: app.handler}}", folder=Path("/here"))

    assert {"echo": FunctionConfig("echo", Path("/here"), handler="app.handler")} == config.functions


def test_the_keys_of_a_python_function(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    text = """
functions:
  echo:
    handler: pkg/app.handler
    code: src
    python: python3.12
    runtime: awslambdaric
    timeout: 30m
    memory: 512MiB
    concurrency: 3
    env: {STAGE: dev, PORT: 8080, FLAG: on}
    reload: true
    url: {auth: iam, invoke_mode: response_stream}
"""
    assert (
        FunctionConfig(
            "echo",
            tmp_path / "src",
            handler="pkg/app.handler",
            python=Path("python3.12"),
            runtime="awslambdaric",
            timeout=1800,
            memory=512 * MIB,
            concurrency=3,
            env={"STAGE": "dev", "PORT": "8080", "FLAG": "on"},
            reload=Reload(),
            url=FunctionUrl("iam", "response_stream"),
        )
        == configured(text, folder=tmp_path).functions["echo"]
    )


def test_any_program_may_be_a_function() -> None:
    config = configured('functions: {rusty: {command: ["./bootstrap", "-v"], url: {}}}')

    assert ("./bootstrap", "-v") == config.functions["rusty"].command
    assert FunctionUrl() == config.functions["rusty"].url


def test_an_interpreter_with_a_slash_is_a_file(tmp_path: Path) -> None:
    """Relative to the configuration; a bare name is sought on PATH."""
    (tmp_path / "python").touch()
    text = "functions: {f: {handler: a.b, python: ./python}}"

    assert tmp_path / "python" == configured(text, folder=tmp_path).functions["f"].python
    assert ['bridge.yaml:1: functions.f.python: no such file: "./python"'] == problems(text)


def test_a_program_may_have_a_handler() -> None:
    """It reads the variable _HANDLER, which has any form that the program knows."""
    function = configured('functions: {f: {command: [./bootstrap], handler: "Shop::Orders"}}').functions["f"]

    assert (("./bootstrap",), "Shop::Orders") == (function.command, function.handler)


def test_a_web_function_has_the_defaults_of_aws() -> None:
    web = configured('functions: {w: {web: {command: ["node", "index.js"]}}}').functions["w"]

    assert WebFunctionConfig(("node", "index.js")) == web.web
    assert (30.0, 64, 2048 * MIB) == (web.timeout, web.instance_concurrency, web.memory)


def test_the_keys_of_a_web_function(tmp_path: Path) -> None:
    text = """
functions:
  w: {web: {command: [a]}, code: ., timeout: 15m, concurrency: 3, instance_concurrency: 128, env: {A: b}, reload: true}
"""
    expected = FunctionConfig(
        "w",
        tmp_path,
        web=WebFunctionConfig(("a",)),
        timeout=900,
        memory=2048 * MIB,
        concurrency=3,
        instance_concurrency=128,
        env={"A": "b"},
        reload=Reload(),
    )
    assert expected == configured(text, folder=tmp_path).functions["w"]


@pytest.mark.parametrize(
    ("problem", "function"),
    [
        (': needs "handler", "command" or "web": nothing says what runs', "{}"),
        (".runtime: has no effect on a command", "{handler: a.b, command: [c], runtime: node}"),
        ('.handler: expected a handler: module.attribute, found "a b"', '{handler: "a b", command: [c]}'),
        (".handler: has no effect on a Web Function", "{web: {command: [c]}, handler: a.b}"),
        (".command: has no effect on a Web Function", "{web: {command: [c]}, command: [c]}"),
        (".memory: has no effect on a Web Function", "{web: {command: [c]}, memory: 1GiB}"),
        (".url: has no effect on a Web Function", "{web: {command: [c]}, url: {}}"),
        (".rate: has no effect on a Web Function", "{web: {command: [c]}, rate: 3}"),
        (".timeout: a request to a Web Function may take 3s to 15m", "{web: {command: [c]}, timeout: 2s}"),
        (".timeout: a request to a Web Function may take 3s to 15m", "{web: {command: [c]}, timeout: 16m}"),
        (
            ".instance_concurrency: a Web Function serves at most 128 requests at once",
            "{web: {command: [c]}, instance_concurrency: 129}",
        ),
        (
            ".env.AWS_LAMBDA_HTTP_ENDPOINT: the local Lambda sets this variable itself",
            "{web: {command: [c]}, env: {AWS_LAMBDA_HTTP_ENDPOINT: x}}",
        ),
        ('.web: needs "command"', "{web: {}}"),
        ('.web.command: expected a list such as ["./bootstrap"], found "node"', "{web: {command: node}}"),
        ('.web.comand: unknown key, did you mean "command"?', "{web: {command: [c], comand: [c]}}"),
        (': expected a mapping, found "app.handler"', "app.handler"),
        (".handler: expected a handler: module.attribute", "{handler: handler}"),
        ('.command: expected a list such as ["./bootstrap"], found "./bootstrap"', "{command: ./bootstrap}"),
        (".command: expected a program, and its arguments after it", "{command: []}"),
        (".python: has no effect on a command", "{command: [c], python: p}"),
        (".runtime: has no effect on a command", "{command: [c], runtime: lambda_fn}"),
        (".python: has no effect on runtime: node", "{handler: a.b, runtime: node, python: python3}"),
        ('.code: no such folder: "none"', "{handler: a.b, code: none}"),
        ('.timeout: expected a duration from 1ms to 30m, found "31m"', "{handler: a.b, timeout: 31m}"),
        ('.memory: expected a size from 1MiB to 10GiB, found "11GiB"', "{handler: a.b, memory: 11GiB}"),
        ('.concurrency: expected a whole number from 1 to 1,000, found "0"', "{handler: a.b, concurrency: 0}"),
        (
            '.instance_concurrency: expected a whole number from 1 to 1,600, found "1601"',
            "{handler: a.b, instance_concurrency: 1601}",
        ),
        (
            ".env.AWS_LAMBDA_MAX_CONCURRENCY: the local Lambda sets this variable itself",
            "{handler: a.b, env: {AWS_LAMBDA_MAX_CONCURRENCY: 4}}",
        ),
        ('.env.A: expected text ("" for none), found null', "{handler: a.b, env: {A: null}}"),
        (".env.A-B: not the name of a variable", "{handler: a.b, env: {A-B: s3cret}}"),
        (".env._HANDLER: the local Lambda sets this variable itself", "{handler: a.b, env: {_HANDLER: s3cret}}"),
        ('.env.A: expected text ("" for none), found a list', "{handler: a.b, env: {A: [s3cret]}}"),
        ('.handlr: unknown key, did you mean "handler"?', "{command: [c], handlr: a.b}"),
        ('.url.auth: expected none or iam, found "x"', "{handler: a.b, url: {auth: x}}"),
    ],
)
def test_what_is_no_function_is_refused(problem: str, function: str) -> None:
    assert [f"bridge.yaml:1: functions.f{problem}"] == problems(f"functions: {{f: {function}}}")


def test_names_are_those_that_aws_allows() -> None:
    assert ["bridge.yaml:1: functions.a b: a function's name is 1 to 64 of A-Z a-z 0-9 - _"] == problems(
        "functions: {a b: {handler: a.b}}"
    )


def test_a_function_that_no_service_uses_is_fine() -> None:
    assert [] == problems("functions: {f: {handler: a.b}}")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("true", Reload()),
        ("false", None),
        ("{}", Reload()),
        ('{include: ["*.py", "a/**"]}', Reload(include=("*.py", "a/**"))),
        ('{exclude: ["data/**"]}', Reload(exclude=("data/**",))),
    ],
)
def test_reload_is_a_switch_or_says_which_files(written: str, expected: Reload | None) -> None:
    config = configured(f"functions: {{f: {{handler: a.b, reload: {written}}}}}")

    assert expected == config.functions["f"].reload


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("maybe", 'functions.f.reload: expected true or false, found "maybe"'),
        ('{inclde: ["*"]}', "did you mean"),
        ("{include: '*.py'}", "functions.f.reload.include: expected a list"),
        ('{include: [""]}', "functions.f.reload.include[0]: must not be empty"),
        ('{exclude: ["# x"]}', "functions.f.reload.exclude[0]: expected a pattern as .gitignore has them"),
        ('{exclude: ["!"]}', "functions.f.reload.exclude[0]: expected a pattern as .gitignore has them"),
    ],
)
def test_patterns_of_reload_are_checked(written: str, message: str) -> None:
    assert message in "\n".join(problems(f"functions: {{f: {{handler: a.b, reload: {written}}}}}"))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("5678", Debug(5678)),
        ("{port: 5678}", Debug(5678)),
        ("{port: 5678, wait: true}", Debug(5678, wait=True)),
        ("null", None),
    ],
)
def test_debug_is_a_port_and_may_wait(written: str, expected: Debug | None) -> None:
    config = configured(f"functions: {{f: {{handler: a.b, debug: {written}}}}}")

    assert expected == config.functions["f"].debug


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("{handler: a.b, debug: true}", "debug: expected a whole number from 1 to 65,535"),
        ("{handler: a.b, debug: 0}", "debug: expected a whole number from 1 to 65,535"),
        ("{handler: a.b, debug: {wait: true}}", 'debug: needs "port"'),
        (
            '{command: ["./a"], debug: 5678}',
            "debug: starts handlers in Python and JavaScript only; for another program",
        ),
        ('{command: ["./a"], handler: a.b, debug: 5678}', "debug: starts handlers in Python and JavaScript only"),
        ('{web: {command: ["./a"]}, debug: 5678}', "debug: has no effect on a Web Function: for another program"),
        ("{handler: a.b, tenants: true, debug: 5678}", "debug: a function that is debugged has one instance"),
        ("{handler: a.b, debug: 50051}", "debug: 127.0.0.1:50051 is taken by listen"),
        ("{handler: a.b, debug: {port: 9001}}", "debug: 127.0.0.1:9001 is taken by emulator"),
    ],
)
def test_debug_is_refused_where_it_cannot_work(function: str, message: str) -> None:
    (problem,) = problems(f"functions: {{f: {function}}}")

    assert f"functions.f.{message}" in problem or ("needs" in message and message in problem)


def test_two_functions_cannot_have_one_debug_port() -> None:
    text = "functions: {f: {handler: a.b, debug: 5678}, g: {handler: a.b, debug: 5678}}"

    assert ["bridge.yaml:1: functions.g.debug: 127.0.0.1:5678 is taken by functions.f.debug"] == problems(text)


def test_a_command_may_have_a_handler() -> None:
    """Custom runtimes read it in _HANDLER."""
    function = configured('functions: {f: {command: ["./bootstrap"], handler: app.main}}').functions["f"]

    assert (("./bootstrap",), "app.main") == (function.command, function.handler)
