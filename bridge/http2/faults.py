"""The two faults that a client's mistake can cause. They are raised and caught inside the engine and never leave it."""

from __future__ import annotations

from bridge.http2.events import ErrorCode, ViolationKind


class ConnectionFault(Exception):
    """The connection is over (RFC 9113 5.4.1)."""

    def __init__(self, code: ErrorCode, kind: ViolationKind, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.kind = kind
        self.reason = reason
        """The debug data of GOAWAY. It is ASCII and quotes nothing that the client sent."""


class StreamFault(Exception):
    """One stream is over (RFC 9113 5.4.2)."""

    def __init__(self, stream_id: int, code: ErrorCode, kind: ViolationKind | None) -> None:
        super().__init__(stream_id, code)
        self.stream_id = stream_id
        self.code = code
        self.kind = kind
        """None if the client is not at fault, because we are draining."""


def protocol_fault(reason: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.PROTOCOL_ERROR, ViolationKind.PROTOCOL, reason)


def size_fault(frame_name: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, ViolationKind.FRAME_SIZE, f"{frame_name} of a wrong size")


def flow_fault(reason: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, ViolationKind.FLOW_CONTROL, reason)
