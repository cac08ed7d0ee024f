from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.config.element import MAX_FILE
from bridge.config.load import VARIABLES, find_config, load, parse
from bridge.config.problems import ConfigErrors
from bridge.config.schema import Config, Listener, TlsFiles
from bridge.rpc.address import TcpAddress, UnixAddress
from tests.support.configured import configured, problems

SHORTEST = "services:\n  helloworld.Greeter: arn:aws:lambda:eu-west-1:123456789012:function:greeter\n"


def write(folder: Path, content: str | bytes = SHORTEST) -> Path:
    path = folder / "bridge.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusals(path: Path) -> list[str]:
    with pytest.raises(ConfigErrors) as refused:
        load(path, environ={})
    return str(refused.value).split("\n")


# -- the file ----------------------------------------------------------------------------------------------------------


def test_the_shortest_useful_file(tmp_path: Path) -> None:
    config = load(write(tmp_path), environ={})

    assert ["helloworld.Greeter"] == list(config.services)
    assert () == config.warnings


def test_problems_have_file_line_and_key(tmp_path: Path) -> None:
    """All of them, in the order of the file."""
    path = write(tmp_path, f"{SHORTEST}wokers: 1\ndrain: soon\n")

    assert [
        f'{path}:3: wokers: unknown key, did you mean "workers"?',
        f'{path}:4: drain: expected a duration such as 250ms, 5s, 2m or 1h, found "soon"',
    ] == refusals(path)


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbf" + SHORTEST.encode())

    assert ["helloworld.Greeter"] == list(load(path, environ={}).services)


def test_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    path = write(tmp_path, "# a\r\nwokers: 1\r\n")

    assert [f'{path}:2: wokers: unknown key, did you mean "workers"?'] == refusals(path)


@pytest.mark.parametrize(
    ("problem", "content"),
    [
        (": the file is empty; it needs services: and under it SERVICE: TARGET", b""),
        (":2: not UTF-8 text: byte 0xff", b"# a\n# \xff\n"),
        (": larger than 1MiB, which no configuration is", b"#" * (MAX_FILE + 1)),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(problem: str, content: bytes, tmp_path: Path) -> None:
    path = write(tmp_path, content)

    assert [f"{path}{problem}"] == refusals(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert [f"{tmp_path}/none.yaml: no such file"] == refusals(tmp_path / "none.yaml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert [f"{tmp_path}: a folder, not a file"] == refusals(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.chmod(0)

    assert [f"{path}: cannot be read: Permission denied"] == refusals(path)


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to the working directory, and they stay what they are when that changes."""
    (tmp_path / "etc").mkdir()
    write(tmp_path / "etc", "listen: unix:bridge.sock")
    monkeypatch.chdir(tmp_path)

    config = load(Path("etc/bridge.yaml"), environ={})
    assert (Listener(UnixAddress(tmp_path / "etc" / "bridge.sock")),) == config.listen


# -- which file --------------------------------------------------------------------------------------------------------


def test_the_flag_names_the_file(tmp_path: Path) -> None:
    write(tmp_path)

    assert Path("a.yaml") == find_config("a.yaml", {"BRIDGE_CONFIG": "b.yaml"}, tmp_path)


def test_else_the_variable_does(tmp_path: Path) -> None:
    write(tmp_path)

    assert Path("b.yaml") == find_config(None, {"BRIDGE_CONFIG": "b.yaml"}, tmp_path)


@pytest.mark.parametrize("environ", [{}, {"BRIDGE_CONFIG": ""}])
def test_else_it_stands_in_the_working_directory(environ: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path)

    assert Path("bridge.yaml") == find_config(None, environ, tmp_path)


def test_without_any_the_shortest_useful_file_is_shown(tmp_path: Path) -> None:
    """And it is one that loads."""
    with pytest.raises(ConfigErrors) as refused:
        find_config(None, {}, tmp_path)

    message, _, example = str(refused.value).partition("\n\n")
    assert "./bridge.yaml: not found; name a file with -c or BRIDGE_CONFIG, or write one, for example:" == message
    assert ["helloworld.Greeter"] == list(configured(example).services)


# -- variables and flags -----------------------------------------------------------------------------------------------

ALL_WRITTEN = "listen: a:1\nadmin: a:2\nworkers: 1\nlog: {level: info, format: json}\n"


def of(config: Config) -> dict[str, object]:
    return {
        "listen": str(config.listen[0].address),
        "admin": str(config.admin and config.admin.address),
        "workers": config.workers,
        "log.level": config.log.level,
        "log.format": config.log.format,
    }


VALUES = {
    "BRIDGE_LISTEN": "b:1",
    "BRIDGE_ADMIN": "b:2",
    "BRIDGE_WORKERS": "2",
    "BRIDGE_LOG_LEVEL": "debug",
    "BRIDGE_LOG_FORMAT": "console",
}


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("text", ["services:", ALL_WRITTEN])
def test_a_variable_wins_over_file_and_default(name: str, text: str) -> None:
    before = of(configured(text))
    after = of(configured(text, environ={name: VALUES[name]}))

    key = VARIABLES[name]
    assert before | {key: after[key]} == after
    assert VALUES[name] == str(after[key])


def test_a_flag_wins_over_a_variable() -> None:
    config = configured(ALL_WRITTEN, environ={"BRIDGE_LOG_LEVEL": "debug"}, overrides={"log.level": "error"})

    assert "error" == config.log.level


def test_an_empty_variable_is_no_variable() -> None:
    assert of(configured(ALL_WRITTEN)) == of(configured(ALL_WRITTEN, environ=dict.fromkeys(VALUES, "")))


def test_other_variables_are_nobodys_business() -> None:
    """Kubernetes sets BRIDGE_PORT for a Service named bridge."""
    assert configured("services:") == configured("services:", environ={"BRIDGE_PORT": "tcp://10.0.0.1:80"})


def test_a_bad_variable_or_flag_is_named() -> None:
    assert [
        'BRIDGE_WORKERS: expected a whole number from 0 to 1,024, found "many"',
        '--log-level: expected debug, info, warning or error, found "loud"',
    ] == problems("services:", environ={"BRIDGE_WORKERS": "many"}, overrides={"log.level": "loud"})


def test_a_value_of_the_file_is_judged_although_a_variable_wins() -> None:
    assert 1 == len(problems("workers: many", environ={"BRIDGE_WORKERS": "1"}))


def test_a_variable_is_taken_literally() -> None:
    (problem,) = problems("services:", environ={"BRIDGE_ADMIN": "${HOST}:1", "HOST": "localhost"})

    assert 'BRIDGE_ADMIN: expected a host name or IP address, found "${HOST}:1"' == problem


def test_a_variable_may_turn_the_admin_port_off() -> None:
    assert configured("services:", environ={"BRIDGE_ADMIN": "null"}).admin is None


def test_a_variable_moves_the_listener_and_leaves_it_its_tls(tmp_path: Path) -> None:
    """An image that sets BRIDGE_LISTEN must not make a protected port a plain one."""
    for name in ("c", "k"):
        (tmp_path / name).touch()
    text = "listen: [{address: 'a:1', tls: {cert: c, key: k}}]"

    config = configured(text, folder=tmp_path, environ={"BRIDGE_LISTEN": "0.0.0.0:2"})
    assert (Listener(TcpAddress("0.0.0.0", 2), TlsFiles(tmp_path / "c", tmp_path / "k")),) == config.listen


def test_a_variable_does_not_replace_several_protected_listeners(tmp_path: Path) -> None:
    for name in ("c", "k"):
        (tmp_path / name).touch()
    text = "listen: ['b:1', {address: 'a:1', tls: {cert: c, key: k}}]"

    assert ["BRIDGE_LISTEN: would replace several listeners and their tls; leave it out"] == problems(
        text, folder=tmp_path, environ={"BRIDGE_LISTEN": "0.0.0.0:2"}
    )


def test_a_variable_replaces_several_plain_listeners() -> None:
    config = configured("listen: ['a:1', 'b:1']", environ={"BRIDGE_LISTEN": "c:1"})

    assert (Listener(TcpAddress("c", 1)),) == config.listen


def test_a_socket_of_a_variable_is_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    config = configured("services:", environ={"BRIDGE_LISTEN": "unix:s"})
    assert (Listener(UnixAddress(tmp_path / "s")),) == config.listen


def test_what_the_environment_brought_in_is_known() -> None:
    """All of it for messages to clients; what stands in headers and functions' variables for the log, too. Defaults are
    no secrets.
    """
    text = """
services:
  a.A: {target: "https://${HOST}/x", headers: {x-key: "Bearer ${KEY}", x-b: "${UNSET:-usual}"}}
functions:
  f: {handler: a.b, env: {PASSWORD: "${PASSWORD}"}}
"""
    environ = {"HOST": "host.test", "KEY": "hunter2", "PASSWORD": "swordfish", "OTHER": "unused"}
    config = parse(text, file="f", folder=Path.cwd(), environ=environ)

    assert {"host.test", "hunter2", "swordfish"} == config.filled
    assert {"hunter2", "swordfish"} == config.secrets
    assert "hunter2" not in repr(config)
