"""docs/payloads.md: its tables name what there is, and its functions do what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.aws.invoke import InvokeReply
from bridge.aws.sigv4 import HeaderPairs
from bridge.config.formats import EVENT_NAMES, EVENTS, PAYLOADS
from bridge.conversion.converter import Conversions
from bridge.rpc.buffers import Account, Buffers
from bridge.rpc.envelope import envelope
from bridge.rpc.errors import FunctionFailed, RpcError
from bridge.rpc.figures import TargetFigures
from bridge.rpc.status import StatusCode
from bridge.services.descriptors import Descriptors, load_descriptors
from bridge.targets.lambda_backend import InvokeCarrier
from bridge.targets.payload import payload_of
from tests.support.fakes import FakeClock, RecordingCall
from tests.support.targets import invoke_target, raw_target

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "payloads.md").read_text()
EXAMPLES: dict[str, str] = dict(
    re.findall(r"^### ([\w-]+ in [\w-]+)\n(?:(?!^#).)*?```python\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE)
)
DESCRIPTORS = load_descriptors(ROOT / "tests" / "crossing" / "orders")


class Running:
    """A carrier that runs the example."""

    def __init__(self, example: str) -> None:
        self._names: dict[str, Any] = {}
        exec(example, self._names)

    async def invoke(
        self,
        payload: bytes,
        *,
        headers: HeaderPairs = (),
        account: Account | None = None,
    ) -> InvokeReply:
        from base64 import b64decode

        context = json.loads(b64decode(dict(headers).get("x-amz-client-context", "e30=")))
        client = SimpleNamespace(custom=context.get("custom"))
        try:
            result = self._names["handler"](json.loads(payload), SimpleNamespace(client_context=client))
        except Exception as error:
            failed = FunctionFailed("failed")
            failed.error_type, failed.error_message = type(error).__name__, str(error)
            raise failed from error
        return InvokeReply(json.dumps(result).encode(), "id-1")


def handler_of(crossing: str) -> Any:
    payload, event = crossing.split(" in ")
    carrier: InvokeCarrier = Running(EXAMPLES[crossing])
    transcode = Conversions(buffers=Buffers(1 << 30)).converter(DESCRIPTORS)
    if event == "raw":
        return raw_target(carrier, transcode=transcode, clock=FakeClock()).handle
    return invoke_target(
        carrier,
        figures=TargetFigures("f"),
        clock=FakeClock(),
        wall_clock=FakeClock(),
        payload=payload_of(payload, transcode),
        event=EVENTS[event],
    ).handle


def test_there_is_an_example_for_every_payload_and_event() -> None:
    payloads, events = zip(*(crossing.split(" in ") for crossing in EXAMPLES), strict=True)

    assert {*PAYLOADS} == {"grpc-web", *payloads}  # that one is lambda_fn's to show
    assert {*EVENT_NAMES} == {*events}


@pytest.mark.parametrize("name", [*PAYLOADS, *EVENT_NAMES])
def test_every_name_has_its_row(name: str) -> None:
    assert f"\n| `{name}`" in TEXT


@pytest.mark.parametrize("crossing", EXAMPLES)
async def test_examples_give_back_what_they_get(crossing: str) -> None:
    message = b"\x0a\x01\x37"  # an order with the id 7
    call = RecordingCall("/orders.v1.Orders/Echo", body=envelope(message))

    await handler_of(crossing)(call)

    assert [message] == call.messages
    assert call.status is not None
    assert StatusCode.OK is call.status.code


@pytest.mark.parametrize("crossing", sorted({*EXAMPLES} - {"protobuf in envoy"}))
async def test_examples_refuse(crossing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Secret` is PERMISSION_DENIED, in each way of saying so."""
    method = DESCRIPTORS.find_method("orders.v1.Orders", "Echo")
    monkeypatch.setattr(Descriptors, "find_method", lambda self, service, name: method)
    call = RecordingCall("/orders.v1.Orders/Secret", body=envelope(b""))

    try:
        await handler_of(crossing)(call)
        status = call.status
    except RpcError as error:
        status = error.status

    assert status is not None
    assert StatusCode.PERMISSION_DENIED is status.code
    assert status.message.endswith("not yours")
