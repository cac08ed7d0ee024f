"""The common part of the sync and the async servicer context: the facts of a call."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

import grpc

from lambda_fn import metadata
from lambda_fn.call import Call
from lambda_fn.status import INTERNAL, UNKNOWN, Metadata, Status

_logger = logging.getLogger("lambda_fn")

COMPRESSION_NAMES = {
    grpc.Compression.NoCompression: "identity",
    grpc.Compression.Deflate: "deflate",
    grpc.Compression.Gzip: "gzip",
}

_CODES = {code.value[0] for code in grpc.StatusCode}

_common_name = re.compile(r"(?:^|,)\s*CN=((?:\\.|[^,\\])*)").search


def number_of(code: object) -> int:
    """Return the number of a status code. Any other value counts as UNKNOWN, as in grpcio."""
    return code.value[0] if isinstance(code, grpc.StatusCode) else UNKNOWN


def number_or_int_of(code: object) -> int:
    """As `number_of`, and plain integers count, as grpc.aio has it."""
    return code if isinstance(code, int) and code in _CODES else number_of(code)


def unexpected(error: Exception) -> str:
    """grpc.aio's words for what a servicer or an interceptor raised."""
    try:
        return f"Unexpected {type(error)}: {error}"
    except Exception:  # noqa: BLE001 - str() of any exception may raise
        return f"Unexpected {type(error)}"


def end(call: Call, status: Status, trailing: object) -> None:
    """End the call with what its servicer gave; metadata that gRPC cannot carry fails the call, as grpcio does."""
    try:
        call.end(status, metadata.of_servicer(trailing))  # type: ignore[arg-type]  # checked there
    except metadata.InvalidMetadata as error:
        refuse_metadata(call, error)


def refuse_metadata(call: Call, error: metadata.InvalidMetadata) -> None:
    """End the call INTERNAL, as grpcio does for metadata that a servicer must not send."""
    _logger.error("%s: %s", call.method, error)
    call.end(Status(INTERNAL, "Invalid metadata"))


class CallFacts:
    """The part of a servicer context that tells about the caller.

    Beyond grpcio's contexts it has `lambda_event` and `lambda_context`: the event as it came, and Lambda's context
    object.
    """

    def __init__(self, call: Call) -> None:
        self._call = call

    @property
    def lambda_event(self) -> Mapping[str, Any] | None:
        return self._call.event

    @property
    def lambda_context(self) -> Any:
        return self._call.lambda_context

    def invocation_metadata(self) -> Metadata:
        return self._call.metadata

    def peer(self) -> str:
        """In grpcio's form, `ipv4:ADDRESS:PORT`. No event tells the port: it is 0."""
        address = self._call.peer.address
        if not address or address == "unix":
            return f"{address or 'unknown'}:"
        return f"ipv6:[{address}]:0" if ":" in address else f"ipv4:{address}:0"

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Of a client certificate that the bridge or API Gateway verified: its PEM, subject and common name, under
        grpcio's keys.
        """
        certificate = self._call.peer.certificate
        if certificate is None:
            return {}
        facts = {
            "transport_security_type": [b"ssl"],
            "x509_pem_cert": [certificate.pem.encode()],
            "x509_subject": [certificate.subject.encode()],
        }
        if name := _common_name(certificate.subject):
            facts["x509_common_name"] = [re.sub(r"\\(.)", r"\1", name[1]).encode()]
        return facts

    def peer_identity_key(self) -> str | None:
        return "x509_common_name" if "x509_common_name" in self.auth_context() else None

    def peer_identities(self) -> Iterable[bytes] | None:
        key = self.peer_identity_key()
        return None if key is None else self.auth_context()[key]

    def disable_next_message_compression(self) -> None:
        self._call.compress_next = False

    def time_remaining(self) -> float | None:
        """Seconds left until the caller's deadline, or until shortly before Lambda ends the invocation."""
        return self._call.time_remaining()
