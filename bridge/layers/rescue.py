"""rescue: turns whatever ended a call into its Status. No other place does this."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from msgspec.structs import replace

from bridge.rpc.call import Call, Handler
from bridge.rpc.errors import Bug, RefusedCall, RequestError, RpcError, forget_frames
from bridge.rpc.events import Phase, Trailers
from bridge.rpc.figures import BridgeFigures

_logger = logging.getLogger(__name__)

_SEE_LOG = "the bridge has an error; its log has the details"


def rescue(
    inner: Handler,
    *,
    figures: BridgeFigures,
    redact: Callable[[str], str] = str,
    random: Callable[[], float] = random.random,
) -> Handler:
    """`redact` removes from a message what no client may read. `random` gives a number from 0 to 1."""

    async def rescued(call: Call) -> None:
        cause: RpcError
        try:
            if call.cause is None:  # else it was aborted before its first step
                await inner(call)
        except RpcError as error:
            # The cause of the abort says more than an error that the abort itself caused.
            cause = call.cause or error
            forget_frames(error)
        except asyncio.CancelledError as error:
            if call.cause is None:
                raise  # the process stops
            cause = call.cause
            forget_frames(error)
        except Exception:  # the one place where any exception becomes a status
            _logger.exception("a bug in the bridge ended a call to %s", call.path)
            cause = call.cause or Bug(_SEE_LOG)
        else:
            if call.phase is Phase.DONE:
                return
            if call.cause is None:
                _logger.error("a bug in the bridge left a call to %s without a status", call.path)
            cause = call.cause or Bug(_SEE_LOG)
        if isinstance(cause, RequestError | RefusedCall):
            figures.refused[cause.reason] += 1
        call.cause = cause
        if cause.request_id:
            call.request_id = cause.request_id
        if cause.retry_after is not None:
            # Clients that were refused together must not come back together.
            cause.retry_after *= 1 + random()
        if call.phase is not Phase.DONE:
            status = replace(cause.status, message=redact(cause.status.message))
            call.send(Trailers(status, cause.trailing))

    return rescued
