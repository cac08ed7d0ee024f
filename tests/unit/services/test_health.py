from __future__ import annotations

import asyncio

import pytest
from grpc_health.v1 import health_pb2

from bridge.rpc.envelope import envelope
from bridge.rpc.errors import Draining, MalformedRequest, NoRoute
from bridge.rpc.events import EMPTY_HEADERS, OK_TRAILERS, Message, Trailers
from bridge.rpc.status import StatusCode
from bridge.services.health import HealthService
from tests.support.served import StreamedCall, answers

CHECK = "/grpc.health.v1.Health/Check"
LIST = "/grpc.health.v1.Health/List"
WATCH = "/grpc.health.v1.Health/Watch"

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def asking(service: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


class Routed:
    """A health service over routes that a test can change."""

    def __init__(self, *services: str) -> None:
        self.services = set(services)
        self.health = HealthService(matches=lambda name: name in self.services, names=lambda: sorted(self.services))

    async def check(self, service: str) -> int:
        call = await answers(self.health.handler, CHECK, asking(service))
        (message,) = await call.messages(1)
        return int(health_pb2.HealthCheckResponse.FromString(message).status)

    async def watch(self, service: str) -> Watch:
        return Watch(self.health, service)


class Watch:
    def __init__(self, health: HealthService, service: str) -> None:
        self.call = StreamedCall(WATCH, asking(service).SerializeToString())
        self.task = self.call.serve(health.handler)

    async def states(self, count: int) -> list[int]:
        return [
            health_pb2.HealthCheckResponse.FromString(message).status for message in await self.call.messages(count)
        ]


async def test_check_answers_with_headers_message_and_trailers() -> None:
    """A call to Check is a whole unary call in the bytes that gRPC's own classes write."""
    call = await answers(Routed().health.handler, CHECK, asking(""))

    serving = health_pb2.HealthCheckResponse(status=SERVING).SerializeToString()
    assert [EMPTY_HEADERS, Message(envelope(serving)), OK_TRAILERS] == call.events


async def test_a_service_with_a_route_is_serving() -> None:
    """A route is enough; nothing is asked of its target."""
    assert SERVING == await Routed("a.B").check("a.B")


async def test_a_service_without_a_route_is_not_found() -> None:
    """Check answers a name that no route matches with trailers alone."""
    call = await answers(Routed("a.B").health.handler, CHECK, asking("a.C"))

    (trailers,) = call.events
    assert isinstance(trailers, Trailers)
    assert StatusCode.NOT_FOUND == trailers.status.code


async def test_draining_is_not_serving_everywhere() -> None:
    """While the bridge drains, the server and each routed service are NOT_SERVING."""
    routed = Routed("a.B")
    routed.health.drain()

    assert [NOT_SERVING] * 2 == [await routed.check(""), await routed.check("a.B")]


@pytest.mark.parametrize("key", ["shop.v1.Cart", "shop.v1.*", "shop.*", "*"])
async def test_a_silent_target_makes_its_services_not_serving(key: str) -> None:
    """State told under a services key holds for the names that key matches; the server itself stays SERVING."""
    routed = Routed("shop.v1.Cart")
    routed.health.set_serving(key, False)

    assert [NOT_SERVING, SERVING] == [await routed.check("shop.v1.Cart"), await routed.check("")]


async def test_the_most_specific_state_counts() -> None:
    """A service with an entry of its own is not judged by the target of a prefix."""
    routed = Routed("shop.v1.Cart")
    routed.health.set_serving("shop.v1.Cart", True)
    routed.health.set_serving("shop.*", False)

    assert SERVING == await routed.check("shop.v1.Cart")


async def test_state_of_an_entry_that_is_gone_is_forgotten() -> None:
    """After a reload without the entry its last state says nothing."""
    routed = Routed("a.B")
    routed.health.set_serving("a.B", False)
    routed.health.routes_changed(["*"])

    assert SERVING == await routed.check("a.B")


async def test_list_tells_every_service_and_the_server() -> None:
    """List maps each name, the empty one included, to its state."""
    routed = Routed("a.B", "a.C")
    routed.health.set_serving("a.C", False)
    call = await answers(routed.health.handler, LIST, health_pb2.HealthListRequest())
    (message,) = await call.messages(1)
    listed = health_pb2.HealthListResponse.FromString(message)

    expected = {"": SERVING, "a.B": SERVING, "a.C": NOT_SERVING}
    assert expected == {name: state.status for name, state in listed.statuses.items()}


async def test_watch_tells_each_change() -> None:
    """Watch sends the state at once and again when it has changed."""
    routed = Routed("a.B")
    watch = await routed.watch("a.B")
    first = await watch.states(1)
    routed.health.set_serving("a.B", False)
    second = await watch.states(2)
    routed.health.set_serving("a.B", True)

    assert [SERVING] == first
    assert [SERVING, NOT_SERVING] == second
    assert [SERVING, NOT_SERVING, SERVING] == await watch.states(3)
    await watch.call.finish()


async def test_watch_is_silent_about_other_services() -> None:
    """A change elsewhere sends nothing."""
    routed = Routed("a.B", "a.C")
    watch = await routed.watch("a.B")
    await watch.states(1)
    routed.health.set_serving("a.C", False)

    assert 1 == len(await watch.call.settled())
    await watch.call.finish()


async def test_watch_of_an_unknown_service_waits_for_it() -> None:
    """SERVICE_UNKNOWN is sent, the call goes on, and a reload that adds the service is told."""
    routed = Routed()
    watch = await routed.watch("a.B")
    await watch.states(1)
    routed.services.add("a.B")
    routed.health.routes_changed(["a.B"])

    assert [SERVICE_UNKNOWN, SERVING] == await watch.states(2)
    await watch.call.finish()


async def test_a_slow_watcher_gets_the_latest_state() -> None:
    """Changes while the client's window is shut collapse into the last one."""
    routed = Routed("a.B")
    watch = await routed.watch("a.B")
    watch.call.is_window_open = False
    await watch.states(1)
    for is_serving in (False, True, False):
        routed.health.set_serving("a.B", is_serving)
        await watch.call.settled()
    await watch.call.open_window()

    assert [SERVING, NOT_SERVING] == await watch.states(2)
    assert 2 == len(await watch.call.settled())
    await watch.call.finish()


async def test_watchers_are_told_of_draining() -> None:
    """Drain sends NOT_SERVING on every open Watch."""
    routed = Routed("a.B")
    watches = [await routed.watch(""), await routed.watch("a.B")]
    for watch in watches:
        await watch.states(1)
    routed.health.drain()

    assert [[SERVING, NOT_SERVING]] * 2 == [await watch.states(2) for watch in watches]
    for watch in watches:
        await watch.call.finish()


async def test_closing_ends_watchers_after_their_last_state() -> None:
    """A Watch tells NOT_SERVING and then ends, so that it keeps no draining bridge waiting."""
    routed = Routed()
    watch = await routed.watch("")
    await watch.states(1)
    routed.health.drain()
    routed.health.close()

    with pytest.raises(Draining):
        await watch.task
    assert [SERVING, NOT_SERVING] == await watch.states(2)


async def test_an_aborted_watch_leaves_nothing_behind() -> None:
    """A cancelled Watch ends at once and is no longer woken."""
    routed = Routed()
    watch = await routed.watch("")
    await watch.states(1)
    watch.call.abort(Draining("stop"))

    with pytest.raises(asyncio.CancelledError):
        await watch.task
    assert set() == routed.health._watchers


async def test_an_unknown_method_has_no_route() -> None:
    """A method that the service lacks is UNIMPLEMENTED."""
    with pytest.raises(NoRoute):
        await answers(Routed().health.handler, "/grpc.health.v1.Health/Heal", asking(""))


async def test_a_call_without_a_message_is_malformed() -> None:
    """A unary call needs its one request message."""
    call = StreamedCall(CHECK)
    await call.end()

    with pytest.raises(MalformedRequest):
        await Routed().health.handler(call)


async def test_bytes_that_are_no_request_are_malformed() -> None:
    """What does not decode as HealthCheckRequest is the client's fault."""
    with pytest.raises(MalformedRequest):
        await Routed().health.handler(StreamedCall(CHECK, b"\xff\xff"))
