"""How a command line is read."""

from __future__ import annotations

import pytest

from bridge import cli


@pytest.mark.parametrize(
    ("line", "chosen"),
    [
        ("call describe --to here:1 a.B", {"method": "describe", "argument": "a.B", "to": "here:1"}),
        ("call --to here:1 list -o json a.B", {"method": "list", "argument": "a.B", "output": "json"}),
        ("call a.B/C -H a:b {} -H c:d -v", {"method": "a.B/C", "argument": "{}", "header": ["a:b", "c:d"]}),
        ("call a.B/C -v -", {"method": "a.B/C", "argument": "-", "verbose": True}),
        ("call a.B/C -v", {"method": "a.B/C", "argument": None, "data": None}),
        ("invoke greeter -c other.yaml {}", {"name": "greeter", "event": "{}"}),
        ("init function:a -o - function:b", {"what": ["function:a", "function:b"]}),
        ("check -o json bridge.yaml", {"file": "bridge.yaml", "output": "json"}),
    ],
)
def test_flags_stand_before_between_or_behind_other_arguments(line: str, chosen: dict[str, object]) -> None:
    read = vars(cli.parse(line.split()))

    assert {"command": line.split(maxsplit=1)[0], **chosen} == {name: read[name] for name in ("command", *chosen)}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "required: COMMAND"),
        ("nosuch", "invalid choice: 'nosuch'"),
        ("call", "required: SERVICE/METHOD"),
        ("call a.B/C -v {} {}", "unrecognized arguments: {}"),
        ("call a.B/C --target local:f --to here:1", "not allowed with argument"),
        ("serve --bad", "unrecognized arguments: --bad"),
    ],
)
def test_wrong_usage_is_told_with_the_commands_usage(capsys: pytest.CaptureFixture[str], line: str, told: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.parse(line.split())

    assert 2 == ended.value.code
    assert told in capsys.readouterr().err
