"""Certificates for tests: an authority of our own, and contexts for both ends."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

from bridge.carriers.http1.tls import ResumingContext, client_context


class Authority:
    """Signs certificates, and is trusted by the clients it makes."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.certificate = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(self.certificate)

    def server(self, *names: str) -> ssl.SSLContext:
        """The context of a server with a certificate for these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*names, key_type=trustme.KeyType.ECDSA).configure_cert(context)
        return context

    def client(self) -> ResumingContext:
        """The context of a client that trusts this authority alone."""
        return client_context(ca=self.certificate)
