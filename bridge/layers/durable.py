"""durable: names the execution that a call becomes. With a name, a call whose answer was lost may be sent again.

AWS runs an execution once. An invocation with the same name and the same payload gets its result. So two things hold
only for calls with a name. A repeat sends the same bytes (`bridge/targets/durable_backend.py`). And a connection that
was lost after sending is a reason to repeat.
"""

from __future__ import annotations

from bridge.aws.durable import NAME_RULE, is_execution_name, name_header
from bridge.rpc.call import Call, Handler
from bridge.rpc.errors import AnswerLost, BadExecutionName, ConnectionLost


def named(inner: Handler, *, metadata: str) -> Handler:
    """Return a handler that takes the name from this metadata. A call without it is an ordinary one. Raises
    BadExecutionName.
    """

    async def served(call: Call) -> None:
        found = [value for key, value in call.metadata if key == metadata]
        if found:
            call.execution_name = _only(found, metadata)
            call.invoke_headers += name_header(call.execution_name)
        await inner(call)

    return served


def _only(found: list[str], metadata: str) -> str:
    if len(found) > 1:
        raise BadExecutionName(f"the metadata {metadata} is there more than once: it names one execution")
    if not is_execution_name(found[0]):
        raise BadExecutionName(f"the metadata {metadata} is not the name of an execution ({NAME_RULE})")
    return found[0]


def repeatable(inner: Handler) -> Handler:
    """Return a handler whose lost answers may be asked for again, if the call has a name."""

    async def served(call: Call) -> None:
        try:
            await inner(call)
        except ConnectionLost as lost:
            if not call.execution_name:
                raise
            raise AnswerLost(str(lost)) from lost

    return served
