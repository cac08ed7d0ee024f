"""durable: which calls have a name, and what a lost answer means for them."""

import pytest

from bridge.layers.durable import named, repeatable
from bridge.layers.retry import retry
from bridge.rpc.call import Call, Handler
from bridge.rpc.errors import AnswerLost, BadExecutionName, ConnectionLost, RpcError, ServiceFailed
from bridge.rpc.events import OK_TRAILERS
from bridge.rpc.figures import TargetFigures
from bridge.rpc.limits import RetryPolicy
from bridge.rpc.status import StatusCode
from tests.support.fakes import RecordingCall

KEY = "idempotency-key"


def _call(*values: str) -> RecordingCall:
    return RecordingCall(metadata=tuple((KEY, value) for value in values))


async def _served(call: RecordingCall) -> RecordingCall:
    async def inner(passed: Call) -> None:
        passed.send(OK_TRAILERS)

    await named(inner, metadata=KEY)(call)
    assert call.events, "the call went no further"
    return call


async def test_the_metadata_names_the_execution() -> None:
    call = await _served(_call("order_7-A"))

    assert "order_7-A" == call.execution_name
    assert (("x-amz-durable-execution-name", "order_7-A"),) == call.invoke_headers


async def test_a_call_without_it_is_an_ordinary_one() -> None:
    call = await _served(_call())

    assert ("", ()) == (call.execution_name, call.invoke_headers)


@pytest.mark.parametrize("values", [("",), ("a b",), ("a.b",), ("x" * 65,), ("a,b",), ("ä",), ("a\n",), ("a", "a")])
async def test_what_is_no_name_is_refused_before_anything_is_sent(values: tuple[str, ...]) -> None:
    async def inner(call: Call) -> None:
        raise AssertionError("nothing may be sent")

    with pytest.raises(BadExecutionName) as caught:
        await named(inner, metadata=KEY)(_call(*values))

    assert StatusCode.INVALID_ARGUMENT is caught.value.code
    assert f"the metadata {KEY} is" in str(caught.value)


class Failing:
    """Fails so often, and then answers."""

    def __init__(self, error: RpcError, times: int = 1) -> None:
        self.sent = 0
        self._error = error
        self._times = times

    async def __call__(self, call: Call) -> None:
        self.sent += 1
        if self.sent <= self._times:
            raise self._error
        call.send(OK_TRAILERS)


def _layers(target: Handler, attempts: int = 3) -> Handler:
    policy = RetryPolicy(attempts=attempts, backoff=0.0)
    inner = retry(repeatable(target), policy=policy, target=TargetFigures("f"), clock=lambda: 0.0)
    return named(inner, metadata=KEY)


async def test_an_execution_whose_answer_was_lost_is_asked_for_again() -> None:
    target, call = Failing(ConnectionLost("cut"), times=2), _call("k")
    await _layers(target)(call)

    assert 3 == target.sent == call.attempts
    assert call.status is not None
    assert StatusCode.OK is call.status.code


async def test_an_ordinary_call_whose_answer_was_lost_is_not_repeated() -> None:
    target = Failing(ConnectionLost("cut"))
    with pytest.raises(ConnectionLost, match="cut") as caught:
        await _layers(target)(_call())

    assert 1 == target.sent
    assert ConnectionLost is type(caught.value)
    assert caught.value.may_have_run


async def test_no_other_failure_is_a_reason_to_repeat() -> None:
    target = Failing(ServiceFailed("failed"))
    with pytest.raises(ServiceFailed):
        await _layers(target)(_call("k"))

    assert 1 == target.sent


async def test_attempts_are_bounded() -> None:
    target = Failing(ConnectionLost("cut"), times=9)
    with pytest.raises(AnswerLost, match="cut") as caught:
        await _layers(target, attempts=2)(_call("k"))

    assert 2 == target.sent
    assert StatusCode.UNAVAILABLE is caught.value.code
