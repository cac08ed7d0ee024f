"""Checks that a request to the Invoke API is signed. Any keys will do, but an unsigned request is refused.

Signatures of requests to function URLs are `url_signature`'s, which verifies them.
"""

from __future__ import annotations

from collections.abc import Mapping

from bridge.emulator.api import refusals

SCHEMES = ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256")
PARAMETERS = ("Credential", "Signature", "SignedHeaders")


def check_signature(headers: Mapping[str, str]) -> None:
    """Raise MissingAuthentication or IncompleteSignature. `headers` are looked up without regard to case."""
    authorization = headers.get("Authorization", "").strip()
    if not authorization:
        raise refusals.MissingAuthentication
    scheme, _, rest = authorization.partition(" ")
    found = {part.partition("=")[0].strip() for part in rest.split(",") if "=" in part}
    wanted = found if scheme in SCHEMES else set[str]()
    missing = [f"Authorization header requires '{name}' parameter." for name in PARAMETERS if name not in wanted]
    if "X-Amz-Date" not in headers and "Date" not in headers:
        missing.append("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    if missing:
        raise refusals.IncompleteSignature(" ".join(missing))
