"""The call console in headless Chromium, as a person uses it, and as a page of another origin would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.bridge_process import EXAMPLES, RunningBridge, running_bridge
from tests.support.clients import node_program, run

pytestmark = [pytest.mark.clients, pytest.mark.slow]

PAGE = Path(__file__).parent / "browser"
ORDERS = Path(__file__).parent / "orders"
SECRET = "s3cr3t-value"
HOSTILE = '<img src=x onerror="window.broken=1"><script>window.broken=1</script>'
TYPED = 'it\'s $(touch /tmp/x) `id` "q" \\ !! \x1b[201~ é 🙂 $HOME\n-- ;'

ECHO = """
import base64

def handler(event, context):
    body = base64.b64decode(event["body"]) + b"\\x80\\0\\0\\0\\x0fgrpc-status:0\\r\\n"
    headers = {"content-type": "application/grpc-web+proto"}
    return {"statusCode": 200, "headers": headers, "isBase64Encoded": True, "body": base64.b64encode(body).decode()}
"""


class Play:
    """What was seen in the page, and the bridge that is still there."""

    def __init__(self, bridge: RunningBridge, seen: dict[str, Any]) -> None:
        self.bridge = bridge
        self.seen = seen


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Any:
    program = node_program("console.js", folder=PAGE)
    folder = tmp_path_factory.mktemp("console")
    (folder / "app.py").write_text(ECHO)
    config = {
        "workers": 2,
        "services": {
            **EXAMPLES["services"],
            "orders.v1.Orders": {"target": "local:orders", "descriptors": str(ORDERS)},
        },
        "functions": {**EXAMPLES["functions"], "orders": {"handler": "app.handler"}},
    }
    with running_bridge(folder, config) as bridge:
        done = run([*program, f"http://{bridge.admin}/"])
        assert 0 == done.returncode, done.stderr
        yield Play(bridge, json.loads(done.stdout))


@pytest.fixture
def seen(play: Play) -> dict[str, Any]:
    return play.seen


def test_nothing_is_loaded_from_elsewhere_and_nothing_breaks(seen: dict[str, Any]) -> None:
    """The policy of the page forbids nothing that it needs. Messages, metadata and statuses are never read as HTML."""
    assert [] == seen["problems"]
    assert 1 == len({urlsplit(url).netloc for url in seen["requests"] if not url.startswith("data:")})
    assert seen["isBroken"] is False


def test_services_are_offered_and_no_target_is_asked_at_first(seen: dict[str, Any]) -> None:
    """The page says whom its token does not keep out."""
    assert "choose a service" == seen["services"][0]
    assert {"dev.Echo", "helloworld.Greeter", "orders.v1.Orders", "grpc.health.v1.Health"} < set(seen["services"])
    assert "Every user of this machine" in seen["warning"]


def test_it_can_be_used_with_the_keyboard_alone(seen: dict[str, Any]) -> None:
    """Each stop is visible, and the focus is not lost when the call has ended."""
    keyboard = seen["keyboard"]

    assert [True, True, True] == keyboard["reached"]
    assert [] == keyboard["bare"]
    assert keyboard["status"].startswith("OK")
    assert "by keyboard" in keyboard["messages"][0]
    assert "send" == keyboard["at"]


def test_a_form_has_every_kind_of_field(seen: dict[str, Any]) -> None:
    """What is typed arrives exactly, 64-bit integers too. The form becomes JSON and a form again."""
    form = seen["form"]
    reply = json.loads(form["answer"]["messages"][0])

    assert {
        "id": HOSTILE,
        "totalCents": "9007199254740993",
        "state": "SHIPPED",
        "signature": "w78=",
        "createdAt": "2026-01-02T03:04:05Z",
        "leadTime": "1.500s",
        "itemCounts": {"it's": -3},
        "parts": [{"id": "one"}, {"id": "two"}],
        "note": "",
        "extra": {"a": [1, None]},
        "weight": 0.5,
        "changed": "id",
        "ratio": 1000,
        "voucher": "18446744073709551615",
        "attachment": {"@type": "type.googleapis.com/orders.v1.GetRequest", "id": "9"},
    } == {**reply, "extra": reply["extra"]}
    assert json.loads(form["asJson"]) == json.loads(form["again"])
    assert reply["parts"] == json.loads(form["asJson"])["parts"]
    assert {"totalCents": "9007199254740993", "parts": [{"id": "p"}], "card": ""} == json.loads(form["exact"])


def test_what_a_form_cannot_show_stays_json_and_what_is_wrong_is_marked(seen: dict[str, Any]) -> None:
    form = seen["form"]

    assert "cannot show all of this JSON" in form["unknown"]
    assert "This is not JSON" in form["broken"]
    assert "ratio is not a number" in form["wrong"]["text"]
    assert form["wrong"]["isMarked"]


def test_json_is_completed(seen: dict[str, Any]) -> None:
    """Names of fields and of enum values, at any depth, and none for the keys of a map."""
    found = seen["completion"]

    assert ["parts repeated Order"] == found["offered"]
    assert "json-name-0" == found["active"]
    assert ["STATE_UNSPECIFIED", "OPEN", "SHIPPED"] == found["values"]
    assert found["inMap"]
    assert 17 == found["all"]
    assert '{"parts": [{"state": "OPEN"}], "item_counts": {"a": 1}, "id": "x"}' == found["text"]
    assert {"id": "x", "parts": [{"state": "OPEN"}], "itemCounts": {"a": 1}} == json.loads(
        found["answer"]["messages"][0]
    )


def texts_of(shown: dict[str, Any]) -> list[str]:
    return [json.loads(message)["text"] for message in shown["messages"]]


def test_every_kind_of_stream_works(seen: dict[str, Any]) -> None:
    """Messages are sent one by one. A bad one is told and does not end the call."""
    streams = seen["streams"]

    assert (["s", "s", "s"], 1) == (texts_of(streams["server"]), streams["server"]["sent"])
    assert (["one two"], 2) == (texts_of(streams["client"]), streams["client"]["sent"])
    assert "no field named" in streams["notSent"]
    assert ["a"] == texts_of(streams["bidi"])
    assert all(streams[kind]["status"].startswith("OK") for kind in ("server", "client", "bidi"))
    assert streams["cancelled"]["status"].startswith("CANCELLED")


def test_an_error_is_shown_with_its_details_and_stages(seen: dict[str, Any]) -> None:
    failed, unary = seen["error"]["failed"], seen["error"]["unary"]

    assert failed["status"].startswith(f"NOT_FOUND {HOSTILE}")
    assert HOSTILE == json.loads(failed["details"][0])["value"]
    assert ["Queue", "Target", "Bridge"] == [each.split()[0] for each in failed["stages"]]
    assert "local:echo" in failed["facts"]
    assert "x-amzn-requestid" in failed["trailers"]
    assert HOSTILE in unary["headers"]
    assert HOSTILE == texts_of(unary)[0]


def test_secrets_are_hidden_unless_asked_for(seen: dict[str, Any]) -> None:
    """In copies and in the history, which asks for them again."""
    copies = seen["copies"]

    assert all(SECRET not in copies[name] for name in ("grpcurl", "call", "python", "stored"))
    assert SECRET in copies["withSecrets"]
    assert "[hidden]" in copies["grpcurl"]
    assert "x-plain" in copies["stored"]
    assert any("/dev.Echo/Fail NOT_FOUND" in each for each in copies["history"])
    assert ["[hidden]", HOSTILE, "shown"] == copies["restored"]
    assert "write its value" in copies["asked"]


@pytest.mark.parametrize(("copy", "program"), [("grpcurl", "grpcurl"), ("call", "grpc-lambda-bridge")])
def test_commands_are_quoted_for_a_shell(seen: dict[str, Any], tmp_path: Path, copy: str, program: str) -> None:
    """A shell passes on what was typed, whatever it is, and no raw control character reaches a terminal."""
    show = tmp_path / program
    show.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    show.chmod(0o755)
    command = seen["copies"][copy]
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": "/home"}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=environ, cwd=tmp_path, timeout=20
    )
    words = json.loads(done.stdout)

    assert "\x1b" not in command
    assert {"text": TYPED} == json.loads(words[words.index("-d") + 1])
    assert "dev.Echo/Unary" == words[-1]
    assert f"echo-initial-x: {HOSTILE}" in words
    assert [program] == [each.name for each in tmp_path.iterdir()]


def test_copies_for_call_and_python_work_as_they_are(play: Play) -> None:
    """Against the bridge itself."""
    python = subprocess.run(
        [sys.executable, "-c", play.seen["copies"]["python"]], capture_output=True, text=True, timeout=60
    )
    words = play.seen["copies"]["call"].replace("grpc-lambda-bridge call", f"{sys.executable} -m bridge call", 1)
    called = subprocess.run(["bash", "-c", words], capture_output=True, text=True, timeout=60)

    assert 0 == python.returncode, python.stderr
    assert "touch /tmp/x" in python.stdout
    assert 0 == called.returncode, called.stderr
    assert TYPED == json.loads(called.stdout)["text"]


def test_calls_count_and_say_where_they_come_from(play: Play) -> None:
    lines = [line for line in play.bridge.access_log() if line["method"] == "/dev.Echo/ServerStream"]

    assert [("console", "OK")] == [(line["peer"], line["code"]) for line in lines]


def test_pages_of_other_origins_get_nothing(play: Play) -> None:
    """In a browser with its usual rules. None of their requests became a call."""
    assert {"nothing"} == {outcome for name, outcome in play.seen["elsewhere"].items() if name != "an iframe"} - {
        "got 0 characters"
    }
    assert play.seen["elsewhere"]["an iframe"] in {"nothing", "got 0 characters"}
    unary = [line for line in play.bridge.access_log() if line["method"] == "/dev.Echo/Unary"]
    assert 1 == len([line for line in unary if line["peer"] == "console"])


def test_everything_has_a_name_and_contrast_and_fits_a_phone(seen: dict[str, Any]) -> None:
    looks = seen["looks"]

    assert [] == looks["unnamed"]
    assert {"light 1280": [], "light 360": [], "dark 1280": [], "dark 360": []} == looks["pale"]
    assert all(pixels <= 0 for pixels in looks["wider"].values()), looks["wider"]


def test_a_console_that_is_off_says_why(tmp_path: Path) -> None:
    program = node_program("console.js", folder=PAGE)
    with running_bridge(
        tmp_path, {"services": {"a.B": None}, "admin": {"address": "127.0.0.1:0", "console": False}}
    ) as bridge:
        done = run([*program, f"http://{bridge.admin}/"])
    assert 0 == done.returncode, done.stderr
    seen = json.loads(done.stdout)

    assert "admin.console: false" in seen["off"]
    assert seen["isHidden"]
    assert [] == seen["problems"]
