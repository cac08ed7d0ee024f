"""TLS to targets: verifies certificates and resumes sessions."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

HTTP_1 = ("http/1.1",)
HTTP_2 = ("h2",)
"""The protocol of a connection, by its ALPN name."""


class ResumingContext(ssl.SSLContext):
    """Resumes the last session with each host, which spares both sides the certificates (RFC 8446 2.2).

    asyncio and uvloop do not support sessions, but both begin every handshake with `wrap_bio`. It remembers one session
    for each host that it is used with. These hosts come from the configuration.
    """

    _sessions: dict[str, ssl.SSLSession]
    _server_name: str | None

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - the signature of the class above
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        if self._server_name is not None:
            server_hostname = self._server_name
        if session is None and isinstance(server_hostname, str):
            session = self._sessions.get(server_hostname)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def remember(self, tls: ssl.SSLObject) -> None:
        """Keep the session of a connection that has carried an answer, because TLS 1.3 sends tickets late."""
        if tls.session is not None and isinstance(tls.server_hostname, str):
            self._sessions[tls.server_hostname] = tls.session


def client_context(
    *,
    ca: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    server_name: str | None = None,
    alpn: Sequence[str] = HTTP_1,
) -> ResumingContext:
    """Make a context that verifies certificates and host names, against `ca` or else the system's authorities.

    `server_name` replaces the host's name in SNI and in the check of the certificate. Raises OSError and ssl.SSLError
    for files that cannot be used.
    """
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context._sessions = {}  # noqa: SLF001 - SSLContext is made in __new__, which takes no more arguments
    context._server_name = server_name  # noqa: SLF001
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(alpn)
    if ca is not None:
        context.load_verify_locations(cafile=ca)
    elif _system_trusts_any():
        context.load_default_certs()
    else:
        context.load_verify_locations(cafile=_bundled_authorities())
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


def context_from_environment(environment: Mapping[str, str]) -> ResumingContext:
    """Make the context for AWS. It reads AWS_CA_BUNDLE as boto3 and the AWS CLI do, for proxies that decrypt TLS."""
    bundle = environment.get("AWS_CA_BUNDLE")
    return client_context(ca=Path(bundle) if bundle else None)


def _system_trusts_any() -> bool:
    """Whether there are any authorities. Slim images may have none."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile is not None:
        return True
    return paths.capath is not None and any(Path(paths.capath).iterdir())


def _bundled_authorities() -> Path:
    """Return the path of botocore's CA bundle, found without importing botocore."""
    found = find_spec("botocore")
    if found is None or found.origin is None:
        raise FileNotFoundError("no certificate authorities: set SSL_CERT_FILE or AWS_CA_BUNDLE")
    return Path(found.origin).with_name("cacert.pem")
