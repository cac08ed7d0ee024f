"""Checks a signature for all regions (SigV4a) without the library that made it: the key is derived from the secret key
as AWS describes it, and the signature verified with `cryptography`.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html, "Derive a signing key"
"""

from __future__ import annotations

import hmac
import re
from hashlib import sha256

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bridge.aws.sigv4 import Credentials, canonical_headers, canonical_path
from tests.support.upstream import ReceivedRequest

_ALGORITHM = "AWS4-ECDSA-P256-SHA256"
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the curve P-256 (FIPS 186)."""


def check_sigv4a(request: ReceivedRequest, keys: Credentials, *, service: str) -> None:
    """Raise InvalidSignature, or AssertionError for a scope that is another one."""
    fields = request.fields
    stamp = fields["x-amz-date"]
    parsed = re.fullmatch(
        rf"{_ALGORITHM} Credential=(?P<key>[^/]+)/(?P<scope>[^,]+), "
        r"SignedHeaders=(?P<names>[^,]+), Signature=(?P<signature>[0-9a-f]+)",
        fields["authorization"],
    )
    assert parsed is not None, fields["authorization"]
    scope = f"{stamp[:8]}/{service}/aws4_request"
    assert (keys.access_key, scope) == (parsed["key"], parsed["scope"])
    names = parsed["names"].split(";")
    assert {"host", "x-amz-content-sha256", "x-amz-date", "x-amz-region-set", "x-amz-security-token"} <= set(names)
    method, path, _ = request.line.split(" ")
    lines, signed = canonical_headers(tuple((name, fields[name]) for name in names))
    canonical = f"{method}\n{canonical_path(path)}\n\n{lines}\n{signed}\n{sha256(request.body).hexdigest()}"
    text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
    _key_of(keys).public_key().verify(bytes.fromhex(parsed["signature"]), text.encode(), ec.ECDSA(hashes.SHA256()))


def _key_of(keys: Credentials) -> ec.EllipticCurvePrivateKey:
    """NIST SP 800-108: a key derivation function in counter mode, repeated until the number fits the curve."""
    secret = f"AWS4A{keys.secret_key}".encode()
    for counter in range(1, 255):
        context = keys.access_key.encode() + bytes([counter])
        label = b"\0\0\0\1" + _ALGORITHM.encode() + b"\0" + context + (256).to_bytes(4, "big")
        candidate = int.from_bytes(hmac.digest(secret, label, "sha256"), "big")
        if candidate <= _ORDER - 2:
            return ec.derive_private_key(candidate + 1, ec.SECP256R1())
    raise AssertionError("no key fits the curve")
