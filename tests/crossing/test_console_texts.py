"""What the console's page makes of texts: words for a shell, commands, programs, JSON, and names that fit."""

from __future__ import annotations

import ast
import json
import random
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import node_program, run

pytestmark = [pytest.mark.clients, pytest.mark.slow]

PAGE = Path(__file__).parent / "browser"
PLAIN = {"address": "127.0.0.1:50051", "tls": False}
CALL = {"path": "/a.B/C", "metadata": [], "deadline": "", "messages": ["{}"], "kind": "unary"}


def texts(**given: Any) -> dict[str, Any]:
    done = run(node_program("texts.js", folder=PAGE, needs=()), text_in=json.dumps(given))
    assert 0 == done.returncode, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


WORDS = [
    "",
    "plain",
    "-x",
    "~",
    "=a",
    "#",
    "a b",
    "'",
    "''x'",
    '"',
    "\\",
    "\\'",
    "$(id)",
    "${HOME}",
    "`id`",
    "!!",
    "*?[a]{b,c}",
    ";&|<>()",
    "a\nb",
    "\n",
    "a\tb",
    "\r\n",
    "\x1b[201~; id\n",
    "\x7f\x80\x9f",
    "é🙂",
    "\u202egnp\u2066",
    "$'x'",
    "\\x41\\101\\n",
    "".join(map(chr, range(1, 127))),
]


def a_word(source: random.Random) -> str:
    letters = "ab'\"\\$`!~ \n\t\r\x1b\x07{}[]()<>|&;*?#=é🙂\u2028\u202e01"
    return "".join(source.choice(letters) for _ in range(source.randrange(12)))


def test_words_arrive_at_a_program_as_they_are() -> None:
    """Whatever they hold. No control character stands in the command itself."""
    source = random.Random(7)
    words = [*WORDS, *(a_word(source) for _ in range(300))]
    quoted = texts(words=words)["words"]
    done = subprocess.run(
        ["bash", "-c", "printf '%s\\0' " + " ".join(quoted)], capture_output=True, timeout=20, env={"LC_ALL": "C"}
    )

    assert words == done.stdout.decode().split("\0")[:-1]
    assert [] == [each for each in quoted if any(char < " " and char != "\n" for char in each)]


def test_words_without_control_characters_are_for_every_shell() -> None:
    """POSIX's own, without $'…'."""
    words = [word for word in WORDS if word.isprintable() and "\u202e" not in word]
    quoted = texts(words=words)["words"]

    assert words == shlex.split(" ".join(quoted))


JSON = [
    "{}",
    "[]",
    '{"a":1}',
    ' { "a" : [ 1 , {"b":"x , { } : y"} , [] ] , "c":{} } ',
    '{"n":12345678901234567890,"f":1.10,"e":1E400,"m":-0}',
    '{"10":1,"2":2}',
    '"a\\"b\\\\"',
    "1.0",
    "null",
]


def test_json_is_indented_and_packed_without_a_change() -> None:
    """Numbers keep their digits, and keys their order."""
    for text, (indented, packed, exact) in zip(JSON, texts(json=JSON)["json"], strict=True):
        assert json.loads(text) == json.loads(indented) == json.loads(packed)
        assert "".join(packed.split()) == "".join(text.split())
        assert "".join(indented.split()) == "".join(text.split())
        assert "12345678901234567890" not in text or '"12345678901234567890"' in exact


@pytest.mark.parametrize(
    ("name", "value", "is_hidden"),
    [
        ("authorization", "x", True),
        ("Proxy-Authorization", "x", True),
        ("cookie", "a=b", True),
        ("x-amz-security-token", "x", True),
        ("x-api-key", "x", True),
        ("apikey", "x", True),
        ("client-secret", "x", True),
        ("x-password", "x", True),
        ("session-id", "x", True),
        ("x-credential-bin", "AA==", True),
        ("x-user", "Bearer abc", True),
        ("x-user", "basic abc", True),
        ("x-user", "eyJhbGciOi.eyJzdWIiOi.c2ln", True),
        ("x-user", "AKIAIOSFODNN7EXAMPLE", True),
        ("x-user", "me", False),
        ("x-tenant", "acme", False),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", False),
    ],
)
def test_what_looks_secret_is_hidden(name: str, value: str, is_hidden: bool) -> None:
    assert [[name, "[hidden]" if is_hidden else value]] == texts(metadata=[[name, value]])["metadata"]


def test_durations_are_those_of_the_configuration() -> None:
    given = ["1m30s", "250ms", "2h", " 5s ", "0.5s", "", "soon", "5", "1s x"]

    assert [90, 0.25, 7200, 5, 0.5, None, None, None, None] == texts(durations=given)["durations"]


@pytest.mark.parametrize(
    ("copy", "listener", "words"),
    [
        ("grpcurl", PLAIN, ["-plaintext", "127.0.0.1:50051"]),
        ("grpcurl", {"address": "0.0.0.0:1", "tls": True}, ["127.0.0.1:1"]),
        ("grpcurl", {"address": "[::]:1", "tls": False}, ["-plaintext", "[::1]:1"]),
        ("grpcurl", {"address": "unix:/run/a b.sock", "tls": False}, ["-plaintext", "-unix", "/run/a b.sock"]),
        ("call", PLAIN, ["--to", "127.0.0.1:50051"]),
        ("call", {"address": "0.0.0.0:1", "tls": True}, ["--to", "127.0.0.1:1", "--tls"]),
        ("call", {"address": "unix:/run/a b.sock", "tls": False}, ["--to", "unix:/run/a b.sock"]),
    ],
)
def test_commands_reach_the_listener(copy: str, listener: dict[str, Any], words: list[str]) -> None:
    command = texts(calls=[[copy, {**CALL, "listener": listener}]])["calls"][0]
    found = shlex.split(command.replace("\\\n", " "))

    assert [] == [word for word in words if word not in found]
    assert ("-plaintext" in found) is (copy == "grpcurl" and not listener["tls"])
    assert "a.B/C" == found[-1]


@pytest.mark.parametrize("kind", ["unary", "server_stream", "client_stream", "bidi_stream"])
def test_python_is_a_program_whatever_was_typed(kind: str) -> None:
    """Its texts are those that were typed."""
    typed = ['{"a":"\\"; import os #"}', "'''", "\\", "\n\u2028\x1b🙂"]
    call = {
        **CALL,
        "listener": PLAIN,
        "kind": kind,
        "messages": typed,
        "deadline": "1m",
        "metadata": [["x-bin", "AP8"]],
    }
    program = texts(calls=[["python", call]])["calls"][0]
    ast.parse(program)
    line = next(each.strip() for each in program.splitlines() if each.strip().startswith("texts = "))
    found: dict[str, Any] = {}
    exec(line, found)

    assert typed == found["texts"]
    assert "timeout=60" in program
    assert program.isascii()


FORM = {
    "method": {"input": "a.M"},
    "messages": {
        "a.M": [
            {"name": "id", "proto_name": "id", "type": "string"},
            {"name": "innerPart", "proto_name": "inner_part", "type": "message", "of": "a.N"},
            {"name": "many", "proto_name": "many", "type": "message", "of": "a.N", "repeated": True},
            {"name": "byKey", "proto_name": "by_key", "type": "message", "of": "a.N", "key": "string"},
            {"name": "states", "proto_name": "states", "type": "enum", "of": "a.E", "repeated": True},
        ],
        "a.N": [{"name": "isIt", "proto_name": "is_it", "type": "bool"}],
    },
    "enums": {"a.E": ["ON", "OFF"]},
}
ALL = ["id", "innerPart", "many", "byKey", "states"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("{", ALL),
        ('{"', ALL),
        ('{"i', ["id", "innerPart"]),
        ('{"id": "x", ', ALL),
        ('{"id": "', []),
        ('{"inner_part": {"', ["isIt"]),
        ('{"innerPart": {"isIt": ', ["true", "false"]),
        ('{"innerPart": {"isIt": t', ["true"]),
        ('{"many": [{"isIt": true}, {"', ["isIt"]),
        ('{"byKey": {"', []),
        ('{"byKey": {"any": {"', ["isIt"]),
        ('{"states": ["', ["ON", "OFF"]),
        ('{"states": ["ON", "O', ["ON", "OFF"]),
        ('{"many": [{"isIt": true}], "', ALL),
        ('{"unknown": {"', []),
        ('{"id": "a } { , \\" [", "', ALL),
    ],
)
def test_names_fit_where_the_caret_is(text: str, names: list[str]) -> None:
    assert [names] == texts(carets=[{"text": text, "form": FORM}])["carets"]
