"""The call console's calls, over raw HTTP: they pass all layers, end with one status, and leave nothing behind.

In front of a bridge in one process, and of two workers.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.bridge_process import EXAMPLES, RunningBridge, running_bridge

pytestmark = pytest.mark.slow

ORDERS = Path(__file__).parent / "orders"
GREETER = {"service": "helloworld.Greeter", "method": "SayHello"}
GREET = "/helloworld.Greeter/SayHello"
SECONDS = 60


class Page:
    """Speaks to the console as the status page does."""

    def __init__(self, bridge: RunningBridge) -> None:
        self.bridge = bridge
        found = re.search(r'name="console-token" content="([^"]+)"', bridge.get("/"))
        assert found is not None
        self._headers = {
            "Content-Type": "application/json",
            "Origin": f"http://{bridge.admin}",
            "X-Console-Token": found[1],
        }

    def post(self, path: str, line: dict[str, Any]) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.bridge.admin, timeout=SECONDS)
        connection.request("POST", path, json.dumps(line), self._headers)
        return connection.getresponse()

    def ask(self, **line: Any) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.post("/console/ask", line).read())
        return answer

    def begin(self, service: str, method: str, **rest: Any) -> Call:
        line = {"do": "call", "service": service, "method": method, **rest}
        return Call(self, self.post("/console/calls", line))

    def call(self, service: str, method: str, *messages: Any, **rest: Any) -> list[dict[str, Any]]:
        """All that happens in a call with these messages, which are its whole request."""
        texts = [json.dumps(message) for message in messages]
        return self.begin(service, method, messages=texts, is_whole=True, **rest).rest()


class Call:
    """A call that is under way."""

    def __init__(self, page: Page, response: http.client.HTTPResponse) -> None:
        assert 200 == response.status, response.read()
        self._page = page
        self.response = response
        self.id = self.next("begun")["id"]

    def next(self, kind: str) -> dict[str, Any]:
        """The next event of this kind."""
        while True:
            line = self.response.readline()
            assert line, f"the call ended without {kind}"
            event: dict[str, Any] = json.loads(line)
            if event["is"] == kind:
                return event

    def say(self, **line: Any) -> None:
        assert 204 == self._page.post(f"/console/calls/{self.id}", line).status

    def send(self, message: Any) -> None:
        self.say(do="send", message=json.dumps(message))

    def rest(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.response.read().splitlines()]


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two workers"])
def bridge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    services = {
        **EXAMPLES["services"],
        "orders.v1.Orders": {"target": "http://127.0.0.1:9", "descriptors": str(ORDERS), "retry": {"attempts": 1}},
        "no.Descriptors": "http://127.0.0.1:9",
    }
    config = {**EXAMPLES, "services": services, "workers": request.param}
    with running_bridge(tmp_path_factory.mktemp("console"), config) as bridge:
        yield bridge


@pytest.fixture
def page(bridge: RunningBridge) -> Page:
    return Page(bridge)


def texts_of(events: list[dict[str, Any]]) -> list[Any]:
    return [json.loads(event["json"])["text"] for event in events if event["is"] == "message"]


def end_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The one end of a call, which is the last event."""
    assert ["ended"] == [event["is"] for event in events if event["is"] in {"ended", "failed", "refused"}]
    assert "ended" == events[-1]["is"]
    return events[-1]


def totals(bridge: RunningBridge) -> dict[str, int]:
    found: dict[str, int] = json.loads(bridge.get("/status"))["totals"]
    return found


# -- questions ---------------------------------------------------------------------------------------------------------


def test_services_are_listed_without_asking_a_target(page: Page) -> None:
    """Those of files with their methods, the others by name; the built-in ones too."""
    services = {each["name"]: each["methods"] for each in page.ask(do="list")["services"]}

    assert ["Echo", "Get", "Fail", "Ping", "Talk"] == [each["name"] for each in services["orders.v1.Orders"]]
    assert services["no.Descriptors"] is None
    assert "Check" in [each["name"] for each in services["grpc.health.v1.Health"]]


def test_a_target_is_asked_when_a_person_wants_to_know(page: Page) -> None:
    told = page.ask(do="describe", service="dev.Echo")["services"][0]["methods"]
    form = page.ask(do="form", service="dev.Echo", method="Fail")

    kinds = {each["name"]: each["kind"] for each in told}
    assert ("server_stream", "bidi_stream") == (kinds["ServerStream"], kinds["BidiStream"])
    assert ["code", "message", "details"] == [each["name"] for each in form["messages"]["dev.FailRequest"]]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"do": "describe", "service": "no.Descriptors"}, "could not be asked|does not answer"),
        ({"do": "describe", "service": "no.Such"}, "describes no.Such|could not be asked"),
        ({"do": "form", "service": "orders.v1.Orders", "method": "Nope"}, "Nope|could not be asked"),
        ({"do": "send", "message": "{}"}, "no call is under way"),
        ({"do": "erase"}, "not understood"),
        ({"do": "list", "more": 1}, "not understood"),
    ],
    ids=str,
)
def test_questions_without_an_answer_are_refused(page: Page, line: dict[str, Any], said: str) -> None:
    refused = page.ask(**line)

    assert "refused" == refused["is"]
    assert re.search(said, refused["text"])


# -- calls -------------------------------------------------------------------------------------------------------------


def test_a_unary_call_passes_all_layers_and_counts(page: Page) -> None:
    """Its line in the log has the peer `console`; its time is told by stages."""
    before = len(page.bridge.wait_for_log(GREET, 0))
    events = page.call(*GREETER.values(), {"name": "you"})

    end = end_of(events)
    assert ["sent", "headers", "message", "ended"] == [event["is"] for event in events]
    assert {"message": "Hello, you!"} == json.loads(events[2]["json"])
    assert (0, "OK") == (end["code"], end["name"])
    stages = end["stages"]
    assert ("local:greeter", 1, True) == (stages["target"], stages["attempts"], stages["upstream"] > 0)
    assert stages["total"] >= stages["upstream"]
    line = page.bridge.wait_for_log(GREET, before + 1)[-1]
    assert ("console", "OK", stages["request_id"]) == (line["peer"], line["code"], line["request_id"])


@pytest.mark.parametrize(
    ("method", "messages", "replies"),
    [
        ("Unary", [{"text": "a"}], ["a"]),
        ("ServerStream", [{"text": "a", "count": 3}], ["a", "a", "a"]),
        ("ClientStream", [{"text": "a"}, {"text": "b"}], ["a b"]),
        ("BidiStream", [{"text": "a"}, {"text": "b"}], ["a", "b"]),
    ],
)
def test_all_kinds_of_methods_work(page: Page, method: str, messages: list[Any], replies: list[str]) -> None:
    """With the whole request at once, and message by message."""
    at_once = page.call("dev.Echo", method, *messages)
    call = page.begin("dev.Echo", method)
    for message in messages:
        call.send(message)
    call.say(do="end")
    one_by_one = call.rest()

    for events in (at_once, one_by_one):
        assert replies == texts_of(events)
        assert "OK" == end_of(events)["name"]
        assert list(range(1, len(messages) + 1)) == [event["number"] for event in events if event["is"] == "sent"]


@pytest.mark.parametrize("line", [{"do": "send", "message": "\ud800"}, {"do": "shout"}], ids=str)
def test_a_line_that_is_not_understood_ends_no_call(page: Page, line: dict[str, Any]) -> None:
    call = page.begin("dev.Echo", "BidiStream")
    call.say(**line)
    refused = call.next("not_sent")
    call.send({"text": "a"})
    call.say(do="end")
    events = call.rest()

    assert "not understood" in refused["text"]
    assert ["a"] == texts_of(events)
    assert "OK" == end_of(events)["name"]


def test_metadata_travels_in_both_directions(page: Page) -> None:
    """Binary values are base64."""
    sent = [["x-plain", "a b"], ["X-Data-Bin", "AP8"], ["echo-initial-a", "first"], ["echo-trailing-b", "last"]]
    events = page.call("dev.Echo", "Unary", {"text": "a"}, metadata=sent)

    headers = next(event["metadata"] for event in events if event["is"] == "headers")
    reply = json.loads(next(event["json"] for event in events if event["is"] == "message"))
    seen = {each["name"]: each for each in reply["metadata"]}
    assert ["echo-initial-a", "first"] in headers
    assert ["echo-trailing-b", "last"] in end_of(events)["metadata"]
    assert "a b" == seen["x-plain"]["text"]
    assert "x-data-bin" in seen


def test_an_error_comes_with_its_details(page: Page) -> None:
    """Texts are passed on as they are: the page shows them as text."""
    failure = {"code": 5, "message": "<script>alert(1)</script>", "details": ["<b>d</b>"]}
    end = end_of(page.call("dev.Echo", "Fail", failure))

    assert ("NOT_FOUND", failure["message"]) == (end["name"], end["message"])
    assert [{"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "<b>d</b>"}] == end["details"]


def test_a_target_that_is_down_is_told_as_to_any_client(page: Page) -> None:
    end = end_of(page.call("orders.v1.Orders", "Echo", {"id": "7"}))

    assert "UNAVAILABLE" == end["name"]
    assert "cannot connect to 127.0.0.1:9" in end["message"]


def test_the_deadline_is_the_call_s(page: Page) -> None:
    """The bridge ends it, and the status is the bridge's."""
    end = end_of(page.call("dev.Echo", "Sleep", {"seconds": 30}, timeout="300ms"))

    assert "DEADLINE_EXCEEDED" == end["name"]
    assert "DEADLINE_EXCEEDED" == page.bridge.wait_for_log("/dev.Echo/Sleep")[-1]["code"]


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ({"messages": ['{"nme": "a"}']}, "no field named"),
        ({"messages": ["{"]}, "is not a helloworld.HelloRequest"),
        ({"messages": ["[1]"]}, "is an object"),
        ({"messages": ["\ud800"]}, "not understood"),
        ({"metadata": [["grpc-timeout", "1S"]]}, "itself uses this name"),
        ({"metadata": [["x-bin", "?"]]}, "not base64"),
        ({"timeout": "soon"}, "the deadline"),
    ],
    ids=str,
)
def test_what_cannot_be_sent_is_refused_before_a_call_begins(page: Page, rest: dict[str, Any], said: str) -> None:
    calls = totals(page.bridge)["calls"]
    events = page.begin(*GREETER.values(), is_whole=True, **rest).rest()

    assert ["refused"] == [event["is"] for event in events]
    assert said in events[0]["text"]
    assert calls == totals(page.bridge)["calls"]


def test_a_bad_message_of_a_stream_does_not_end_it(page: Page) -> None:
    call = page.begin("dev.Echo", "BidiStream")
    call.send({"txt": "wrong"})
    assert "no field named" in call.next("not_sent")["text"]
    call.send({"text": "right"})
    call.say(do="end")
    call.say(do="send", message="{}")
    events = call.rest()

    assert (["right"], "OK") == (texts_of(events), end_of(events)["name"])


def test_a_call_is_cancelled_from_the_page(page: Page) -> None:
    """It has one status here, and one line in the log."""
    call = page.begin("dev.Echo", "SleepAsync", messages=['{"seconds": 30}'], is_whole=True)
    call.next("sent")
    call.say(do="cancel")
    end = end_of(call.rest())

    assert ("CANCELLED", "cancelled in the console") == (end["name"], end["message"])
    assert "local:echo" == end["stages"]["target"]
    assert ["CANCELLED"] == [line["code"] for line in page.bridge.wait_for_log("/dev.Echo/SleepAsync")]


def test_a_call_is_cancelled_when_its_page_goes(page: Page) -> None:
    before = len(page.bridge.wait_for_log("/dev.Echo/BidiStream", 0))
    call = page.begin("dev.Echo", "BidiStream")
    call.send({"text": "a"})
    call.next("sent")
    call.response.close()
    line = page.bridge.wait_for_log("/dev.Echo/BidiStream", before + 1)[-1]

    assert ("console", "CANCELLED") == (line["peer"], line["code"])


def test_a_reply_that_is_too_large_to_show_ends_the_call(page: Page) -> None:
    events = page.call("dev.Echo", "Big", {"size": 4_250_000})

    assert "failed" == events[-1]["is"]
    assert "the console shows messages of up to 4194304 bytes" in events[-1]["text"]


def test_a_message_that_is_too_large_is_not_sent(page: Page) -> None:
    events = page.call(*GREETER.values(), {"name": "x" * (4 << 20)})

    assert ["refused"] == [event["is"] for event in events]
    assert "the console takes 4194304" in events[0]["text"]


def test_a_slow_page_holds_the_function_s_stream_back(page: Page) -> None:
    """What it does not read stays within windows and buffers, and it may read on later."""
    call = page.begin("dev.Echo", "BidiStream")
    for number in range(30):
        call.send({"text": f"{number}" + "x" * 100_000})
    time.sleep(0.5)
    assert totals(page.bridge)["buffered_bytes"] < 64 << 20
    call.say(do="end")
    events = call.rest()

    assert "OK" == end_of(events)["name"]
    assert events[-1]["stages"]["target"] == "local:echo"


def test_it_leaves_nothing_behind(page: Page) -> None:
    """No connection, no call, no buffered byte."""
    page.call(*GREETER.values(), {"name": "you"})

    def is_clean() -> bool:
        found = totals(page.bridge)
        return not (found["in_flight"] or found["connections"] or found["buffered_bytes"])

    page.bridge.wait_until(is_clean)


def test_calls_under_way_end_when_the_bridge_stops(tmp_path: Path) -> None:
    """Within its drain, with a status or an end of the connection, and never later."""
    with running_bridge(tmp_path, {**EXAMPLES, "drain": "300ms"}) as bridge:
        page = Page(bridge)
        page.call("dev.Echo", "Unary", {"text": "a"})  # the function runs
        call = page.begin("dev.Echo", "Sleep", messages=['{"seconds": 30}'], is_whole=True)
        call.next("sent")
        code = bridge.stop()
        try:
            events = call.rest()
        except (OSError, http.client.HTTPException):
            events = []
        lines = [line for line in bridge.access_log() if line["method"] == "/dev.Echo/Sleep"]

    assert 0 == code
    assert all(event["is"] in {"ended", "failed", "headers"} for event in events)
    assert 1 == len(lines)
    assert lines[0]["code"] in {"UNAVAILABLE", "CANCELLED"}
