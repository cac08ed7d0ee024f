"""What InvokeWithResponseStream says: its events as the bytes that a function wrote, and how that ended.

https://docs.aws.amazon.com/lambda/latest/api/API_InvokeWithResponseStream.html
"""

from __future__ import annotations

from msgspec import DecodeError, Struct
from msgspec.json import Decoder, Encoder

from bridge.aws.errors import failure_of
from bridge.aws.event_stream import EventStreamReader, StreamedEvent
from bridge.rpc.errors import BadReply, CutReply, RpcError, ServiceFailed
from bridge.rpc.json_text import without_mark

_UNTYPED = frozenset(("", "Unhandled", "Handled"))
"""Error codes that only say that there was an error."""


class _Complete(Struct, gc=False):
    """The payload of InvokeComplete."""

    ErrorCode: str | None = None
    ErrorDetails: str | None = None


class _Details(Struct, gc=False):
    """ErrorDetails, where they are what a runtime reported."""

    errorType: object = None  # noqa: N815 - the wire's name
    errorMessage: object = None  # noqa: N815


_decode_complete = Decoder(_Complete).decode
_decode_details = Decoder(_Details).decode
_encode = Encoder().encode


class ResponseStream:
    """Reads one response: `feed` it any chunks, then `finish`."""

    __slots__ = ("_events", "_function", "_is_complete")

    def __init__(self, *, function: str) -> None:
        """Make a reader. `function` is how messages name the function."""
        self._events = EventStreamReader()
        self._function = function
        self._is_complete = False

    @property
    def held(self) -> int:
        """Bytes of an event that is not whole yet."""
        return self._events.held

    def feed(self, data: bytes) -> tuple[list[bytes], RpcError | None]:
        """Return the bytes that the function wrote, and the failure if the reply ended with one. The outcome does not
        depend on the chunks.
        """
        written: list[bytes] = []
        self._events.feed(data)
        try:
            while (event := self._events.next_event()) is not None:
                failure = self._read(event, written)
                if failure is not None:
                    return written, failure
        except BadReply as error:
            return written, error
        return written, None

    def _read(self, event: StreamedEvent, written: list[bytes]) -> RpcError | None:
        if self._is_complete:
            return BadReply(f"AWS's event stream for {self._function} goes on behind its end")
        if event.header(":message-type") in ("exception", "error"):
            return self._broken_off(event)
        match event.header(":event-type"):
            case "PayloadChunk":
                written.append(event.payload)
            case "InvokeComplete":
                self._is_complete = True
                return self._failure(event.payload)
            case _:
                pass  # events may be added to an API
        return None

    def finish(self) -> None:
        """End the stream. Raises CutReply if the function's end was not told."""
        if not self._is_complete:
            raise CutReply(f"the event stream of {self._function} ended before AWS said that the function had")

    def _failure(self, payload: bytes) -> RpcError | None:
        try:
            told = _decode_complete(without_mark(payload)) if payload.strip() else _Complete()
        except (DecodeError, UnicodeDecodeError, RecursionError):
            return BadReply(f"AWS ended the event stream of {self._function} with no JSON")
        code, details = told.ErrorCode or "", told.ErrorDetails or ""
        if not code and not details:
            return None
        return failure_of(_reported(code, details), function=self._function)

    def _broken_off(self, event: StreamedEvent) -> RpcError:
        """Return an error of Lambda's own in the middle of a stream. The function has run, whatever it is called."""
        name = event.header(":exception-type") or event.header(":error-code")
        cause = f" ({name[:80]})" if name.isprintable() and name else ""
        return ServiceFailed(f"Lambda broke off the reply of {self._function}{cause}")


def _reported(code: str, details: str) -> bytes:
    """Return the failure as Invoke would have returned it: details may be that JSON, or a text."""
    try:
        reported = _decode_details(details.removeprefix("\ufeff"))
    except (DecodeError, UnicodeDecodeError, RecursionError):
        reported = _Details(errorMessage=details)
    if not isinstance(reported.errorType, str) or not reported.errorType:
        reported.errorType = None if code in _UNTYPED else code
    return _encode(reported)
