"""The key and the certificate with which the bridge meets its functions. They live as long as the process."""

from __future__ import annotations

import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

_LIFE = timedelta(days=3650)
_CLOCK_SKEW = timedelta(days=1)
"""A function's clock may be behind ours."""


def make_certificate() -> tuple[ssl.SSLContext, str]:
    """Return a server's context with a new key, and its certificate (PEM). The key never leaves this process but for
    the moment that OpenSSL reads it from a file of this user.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "grpc-lambda-bridge")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("grpc-lambda-bridge")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with tempfile.TemporaryDirectory() as folder:  # 0700: ssl reads keys from files alone
        path = Path(folder) / "key.pem"
        path.touch(mode=0o600)
        path.write_bytes(pem + secret)
        return duplex_server_context(path), pem.decode("ascii")


def duplex_server_context(path: Path, key: Path | None = None) -> ssl.SSLContext:
    """Return the context of a listener for functions. Raises OSError for files that hold no certificate and key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(path, key)
    return context
