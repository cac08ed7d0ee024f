"""TLS for listeners: HTTP/2 by ALPN, mutual TLS, and new certificates, which are found by the files' times."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from bridge.config.schema import TlsFiles

_WORDS = {
    "WRONG_VERSION_NUMBER": "a plaintext client: it must use TLS here",
    "HTTP_REQUEST": "an HTTP/1.1 client without TLS: this port speaks gRPC over TLS",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client showed no certificate, and `client_ca` asks for one",
    "TLSV1_ALERT_UNKNOWN_CA": "the client does not trust our certificate: it does not know who issued it",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the client refuses our certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "the client refuses our certificate: it does not support its kind",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the client refuses our certificate: it is revoked",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the client refuses our certificate: it has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the client refuses our certificate",
    "TLSV1_ALERT_DECRYPT_ERROR": "the client refuses our certificate: its signature is wrong",
    "TLSV1_ALERT_ACCESS_DENIED": "the client refuses us",
    "UNSUPPORTED_PROTOCOL": "the client does not offer TLS 1.2 or 1.3",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the client does not offer TLS 1.2 or 1.3",
    "NO_SHARED_CIPHER": "the client and we have no cipher in common",
    "UNEXPECTED_EOF_WHILE_READING": "the client left in the middle of the handshake",
}
"""What OpenSSL's reasons mean for an operator. `man ERR_get_error` lists none of them: they are those of ssl_err.c."""

_NO_TLS = frozenset(("WRONG_VERSION_NUMBER", "HTTP_REQUEST"))
"""OpenSSL's reasons for bytes that are not TLS."""


def server_context(files: TlsFiles, failed: Callable[[str], None] | None = None) -> ssl.SSLContext:
    """Make a server context from the files as they are now. Raises an OSError that names the file at fault. `failed` is
    called with what happened when a handshake failed, and then the client is told as well.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if failed is not None:
        context.sslobject_class = _telling(failed)
    # RFC 9113 9.2: TLS 1.2 at least, no compression, no renegotiation; its cipher block list leaves these.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.set_alpn_protocols(["h2"])
    try:
        context.load_cert_chain(files.cert, files.key, password=_no_password)
    except OSError as error:
        raise OSError(
            f"{files.cert} and {files.key} are not a certificate and its key in PEM: {_reason(error)}"
        ) from error
    if files.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _trust(context, files.client_ca)
    return context


def _trust(context: ssl.SSLContext, client_ca: Path) -> None:
    try:
        context.load_verify_locations(client_ca)
    except OSError as error:
        raise OSError(f"{client_ca} has no certificates in PEM: {_reason(error)}") from error


def stamp_of(files: TlsFiles) -> tuple[tuple[int, int], ...]:
    """Return a value that changes whenever one of the files does. It is empty while one of them is missing."""
    try:
        stats = [path.stat() for path in (files.cert, files.key, files.client_ca) if path is not None]
    except OSError:
        return ()
    return tuple((stat.st_mtime_ns, stat.st_ino) for stat in stats)


def _telling(failed: Callable[[str], None]) -> type[ssl.SSLObject]:
    """Handshakes that tell both sides why they fail."""

    class Telling(ssl.SSLObject):
        _failure: ssl.SSLError | None = None

        def do_handshake(self) -> None:
            if self._failure is not None:
                raise self._failure
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                failed(_explained(error))
                if error.reason in _NO_TLS:
                    raise  # a client without TLS would not understand an alert
                self._failure = error
                # asyncio and uvloop close without sending the queued alert, so the client would only see a reset. If
                # bytes were missing, they send it; then the client closes, or the time for handshakes ends.
                raise ssl.SSLWantReadError from error

    return Telling


def _explained(error: ssl.SSLError) -> str:
    """Return what happened, and OpenSSL's own reason, by which it can be looked up."""
    reason = error.reason or str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate is not accepted: {error.verify_message} ({reason})"
    words = _WORDS.get(reason)
    return f"{words} ({reason})" if words else reason


def _no_password() -> str:
    # Without this, OpenSSL would ask at the terminal and hold the process.
    raise OSError("the key file is encrypted; give one that is not")


def _reason(error: OSError) -> str:
    """OpenSSL's reason without its numbers; an SSLError that Python raises itself has none."""
    return getattr(error, "reason", None) or error.strerror or str(error)
