"""route: the call goes to its route's own handler."""

from bridge.layers.route import route
from bridge.rpc.call import Call, Route
from bridge.rpc.events import OK_TRAILERS
from bridge.rpc.figures import MethodFigures
from bridge.rpc.limits import Limits
from tests.support.fakes import RecordingCall


async def test_call_goes_to_its_routes_handler() -> None:
    """The handler found when the call began."""

    async def answer(call: Call) -> None:
        call.send(OK_TRAILERS)

    call = RecordingCall()
    call.route = Route("a.B", answer, MethodFigures("a.B", "C"), Limits())
    await route(call)

    assert [OK_TRAILERS] == call.events
