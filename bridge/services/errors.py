"""What can be wrong with descriptors. Neither ends a call: one stops a configuration, one answers a question."""

from __future__ import annotations

from bridge.rpc.status import StatusCode


class BadDescriptors(Exception):
    """Descriptors that cannot be used; the text says which, why, and where (`file:line`)."""


class NotDescribed(Exception):
    """A name that no source describes. The text is for the client."""

    def __init__(self, message: str, *, code: StatusCode = StatusCode.NOT_FOUND) -> None:
        super().__init__(message)
        self.code = code
