"""Why a server did not answer gRPC: looks at it again, byte by byte, and says what the user can do.

It runs only after a connection has failed, so it may take its time (a few seconds). It sends no call.
"""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from bridge.commands.call_address import Security, split_address

_SECONDS = 3.0
"""For one look: to connect, and to read the first bytes."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""RFC 9113 3.4, and empty SETTINGS."""
_SETTINGS = 4
_ASK_HTTP_1 = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_ADMIN_MARK = b"server: grpc-lambda-bridge"
_TLS_ALERT = b"\x15\x03"

_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
_NOT_YET_VALID = 9
_EXPIRED = 10
_OTHER_NAME = frozenset({62, 64})
"""OpenSSL's X509_V_ERR numbers."""

_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF", "PACKET_LENGTH_TOO_LONG")
"""OpenSSL's reasons when the server speaks something other than TLS."""
_WANTS_CERTIFICATE = (
    "CERTIFICATE_REQUIRED",
    "HANDSHAKE_FAILURE",
    "BAD_CERTIFICATE",
    "UNKNOWN_CA",
    "CERTIFICATE_UNKNOWN",
)
"""TLS alerts of a server that refuses us, not us it."""

IS_IT_RUNNING = "is the bridge running there? --to names another address"


def explain(address: str, security: Security) -> str | None:
    """Return a sentence that says why no call can be made to the server. None: it can be reached over HTTP/2."""
    try:
        opened = _connect(address)
    except socket.gaierror:
        found = split_address(address)
        return f"nothing answers gRPC at {address}: no host has the name {found[0] if found else address}"
    except ConnectionRefusedError:
        return f"nothing answers gRPC at {address}: the connection is refused; {IS_IT_RUNNING}"
    except FileNotFoundError:
        return f"nothing answers gRPC at {address}: there is no such socket; {IS_IT_RUNNING}"
    except TimeoutError:
        return f"nothing answers gRPC at {address}: no connection within {_SECONDS:g} s; {IS_IT_RUNNING}"
    except OSError as error:
        return f"nothing answers gRPC at {address}: {error.strerror or error}; {IS_IT_RUNNING}"
    if opened is None:
        return f"nothing answers gRPC at {address}; {IS_IT_RUNNING}"
    with opened:
        return _explain_tls(address, opened, security) if security.tls else _explain_plaintext(address, opened)


def _connect(address: str) -> socket.socket | None:
    """Open a plain connection. None: only gRPC can resolve such a name."""
    if address.startswith("unix:"):
        name = address.removeprefix("unix:")
        opened = socket.socket(socket.AF_UNIX)
        opened.settimeout(_SECONDS)
        try:
            opened.connect(str(Path(name.removeprefix("//"))))
        except OSError:
            opened.close()
            raise
        return opened
    found = split_address(address)
    return None if found is None else socket.create_connection(found, timeout=_SECONDS)


# -- we spoke plaintext ------------------------------------------------------------------------------------------------


def _explain_plaintext(address: str, opened: socket.socket) -> str | None:
    first = _answer_to(_PREFACE, opened)
    if first.startswith(b"HTTP/1."):
        return _of_http_1(address, tls=None)
    if _is_settings(first):
        return None
    if first.startswith(_TLS_ALERT) or _speaks_tls(address):
        return f"{address} expects TLS, and this call was in plaintext; add --tls (or --cacert FILE, --insecure)"
    if _http_1_answer(address, None):
        return _of_http_1(address, tls=None)
    return f"{address} accepts connections, but it does not answer in HTTP/2 and so not in gRPC"


def _answer_to(sent: bytes, opened: socket.socket | ssl.SSLSocket) -> bytes:
    """Return the first bytes that the server answers; none if it answers nothing."""
    try:
        opened.settimeout(_SECONDS)
        opened.sendall(sent)
        found = b""
        while len(found) < 9 and (more := opened.recv(4096)):
            found += more
    except OSError:
        return b""
    return found


def _is_settings(first: bytes) -> bool:
    return len(first) >= 9 and first[3] == _SETTINGS and first[5:9] == bytes(4)


def _speaks_tls(address: str) -> bool:
    opened = _again(address)
    if opened is None:
        return False
    with opened:
        try:
            with _unverified().wrap_socket(opened, server_hostname=_host_of(address)):
                return True
        except ssl.SSLError as error:
            return not _is_no_tls(error)
        except OSError:
            return False


# -- we spoke TLS ------------------------------------------------------------------------------------------------------


def _explain_tls(address: str, opened: socket.socket, security: Security) -> str | None:
    try:
        context = _context(security)
    except (OSError, ssl.SSLError) as error:
        return f"the TLS files cannot be used: {getattr(error, 'reason', None) or error.strerror or error}"
    try:
        with context.wrap_socket(opened, server_hostname=security.authority or _host_of(address)) as secured:
            return _explain_secured(address, secured, security)
    except ssl.SSLCertVerificationError as error:
        return _of_certificate(address, error, security)
    except ssl.SSLError as error:
        return _of_tls_error(address, error, security)
    except OSError:
        return _without_tls(address)


def _explain_secured(address: str, secured: ssl.SSLSocket, security: Security) -> str | None:
    if secured.selected_alpn_protocol() != "h2":
        return _of_http_1(address, tls=_context(security))
    try:
        secured.settimeout(_SECONDS)
        secured.sendall(_PREFACE)
        is_ended = not secured.recv(4096)  # with TLS 1.3, the server's opinion of our certificate comes now
    except ssl.SSLError as error:
        return _of_tls_error(address, error, security)
    except TimeoutError:
        is_ended = False
    except OSError:
        is_ended = True
    if is_ended and security.cert is not None:
        return f"{address} ends the connection after the TLS handshake; it may refuse the certificate {security.cert}"
    if is_ended:
        return (
            f"{address} ends the connection after the TLS handshake; it probably asks for a client certificate:"
            " give one with --cert FILE --key FILE"
        )
    return None


def _of_certificate(address: str, error: ssl.SSLCertVerificationError, security: Security) -> str:
    what = f"the certificate of {address} is refused"
    if error.verify_code in _OTHER_NAME:
        asked = security.authority or _host_of(address)
        return f"{what}: it is not for {asked}; --authority NAME says which name it must have"
    if error.verify_code == _EXPIRED:
        return f"{what}: it has expired; --insecure does not check it"
    if error.verify_code == _NOT_YET_VALID:
        return f"{what}: it is not valid yet; --insecure does not check it"
    if error.verify_code in _UNKNOWN_AUTHORITY:
        by = f"{security.cacert} does not hold its authority" if security.cacert else "its authority is not known here"
        return f"{what}: {by}; name the authority with --cacert FILE, or use --insecure"
    return f"{what}: it does not verify ({error.verify_message}); --insecure does not check it"


def _of_tls_error(address: str, error: ssl.SSLError, security: Security) -> str:
    reason = error.reason or ""
    if _is_no_tls(error):
        return _without_tls(address)
    if any(word in reason for word in _WANTS_CERTIFICATE):
        if security.cert is None:
            return f"{address} asks for a client certificate; give one with --cert FILE --key FILE"
        return f"{address} refuses the client certificate {security.cert} ({reason})"
    return f"{address} does not agree on TLS ({reason or 'no reason given'})"


def _without_tls(address: str) -> str:
    """Explain a server that speaks no TLS. It may be a gRPC server in plaintext."""
    opened = _again(address)
    if opened is not None:
        with opened:
            first = _answer_to(_PREFACE, opened)
        if _is_settings(first):
            return f"{address} speaks gRPC in plaintext, without TLS; leave out --tls and the flags for TLS"
        if first.startswith(b"HTTP/1.") or _http_1_answer(address, None):
            return _of_http_1(address, tls=None)
    return f"{address} does not speak TLS"


def _is_no_tls(error: ssl.SSLError) -> bool:
    return isinstance(error, ssl.SSLEOFError) or any(word in (error.reason or "") for word in _NO_TLS)


def _context(security: Security) -> ssl.SSLContext:
    from bridge.carriers.http1.tls import HTTP_2, client_context

    if not security.is_verified:
        return _unverified(security)
    return client_context(ca=security.cacert, certificate=security.cert, key=security.key, alpn=HTTP_2)


def _unverified(security: Security | None = None) -> ssl.SSLContext:
    from bridge.commands.call_unverified import unverified_context

    return unverified_context(security or Security())


# -- a server of HTTP/1.1 ----------------------------------------------------------------------------------------------


def _of_http_1(address: str, *, tls: ssl.SSLContext | None) -> str:
    if _ADMIN_MARK in _http_1_answer(address, tls).lower():
        return (
            f"{address} is the admin port of a bridge, which takes no calls; --to takes an address of its `listen`"
            " (by default localhost:50051)"
        )
    return f"{address} is an HTTP/1.1 server, and gRPC needs HTTP/2; --to takes an address of the bridge's `listen`"


def _http_1_answer(address: str, tls: ssl.SSLContext | None) -> bytes:
    """Return the start of what the server answers to an HTTP/1.1 request; nothing if it is no such server."""
    opened = _again(address)
    if opened is None:
        return b""
    with opened:
        try:
            if tls is not None:
                with tls.wrap_socket(opened, server_hostname=_host_of(address)) as secured:
                    return _head_of(secured)
            return _head_of(opened)
        except OSError:
            return b""


def _head_of(opened: socket.socket) -> bytes:
    opened.settimeout(_SECONDS)
    opened.sendall(_ASK_HTTP_1)
    found = b""
    while b"\r\n\r\n" not in found and len(found) < 1 << 14 and (more := opened.recv(4096)):
        found += more
    return found if found.startswith(b"HTTP/1.") else b""


def _again(address: str) -> socket.socket | None:
    try:
        return _connect(address)
    except OSError:
        return None


def _host_of(address: str) -> str:
    found = split_address(address)
    return "localhost" if found is None else found[0]
