"""Verifies the AWS Signature Version 4 of a request to a URL with `auth: iam`.

The request's parts, the keys that are known and the time come in; the access key goes out, or BadSignature. Presigned
URLs (the signature in the query) are not taken.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from bridge.aws.sigv4 import ALGORITHM, Credentials, RequestSigner, SigningKey, payload_hash
from bridge.emulator.api import naming
from bridge.emulator.api.url_event import UrlRequest

_SERVICE = "lambda"
MAX_AGE = 300.0
"""Seconds that a signature's time may differ from ours, either way."""
LOCAL = {"local": "local"}
"""What functions of the local Lambda, and targets `local:`, sign with."""

_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} +Credential=(?P<key>[^/, ]+)/(?P<scope>[^, ]+) *, *"
    r"SignedHeaders=(?P<names>[^, ]+) *, *Signature=(?P<signature>[0-9a-f]{64}) *"
)
_STAMP = re.compile(r"\d{8}T\d{6}Z")
_ADDED = ("x-amz-date", "x-amz-security-token")
"""Headers that the signer adds by itself."""


class BadSignature(Exception):
    """`str` says what is wrong, for the function's log; it repeats nothing secret."""


def known_keys(environment: Mapping[str, str]) -> dict[str, str]:
    """Secret keys by access key: the local Lambda's own, and those of the environment that it runs in."""
    access_key = environment.get("AWS_ACCESS_KEY_ID")
    secret_key = environment.get("AWS_SECRET_ACCESS_KEY")
    return LOCAL | ({access_key: secret_key} if access_key and secret_key else {})


def verify(request: UrlRequest, sent_path: str, *, keys: Mapping[str, str], now: float) -> str:
    """Return the access key of who signed. `sent_path` is the path as sent, whole; `now`: Unix time. Raises
    BadSignature.
    """
    headers = _headers(request)
    match = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if match is None:
        raise BadSignature("it has no AWS Signature Version 4 in its Authorization header")
    stamp = headers.get("x-amz-date", "")
    signed_at = _time_of(stamp)
    if abs(now - signed_at) > MAX_AGE:
        raise BadSignature(f"it was signed {abs(now - signed_at):.0f} s ago or ahead, {MAX_AGE:.0f} are allowed")
    scope = f"{stamp[:8]}/{naming.REGION}/{_SERVICE}/aws4_request"
    if match["scope"] != scope:
        raise BadSignature(f"it is signed for another scope than {scope}")
    names = match["names"].split(";")
    if not {"host", "x-amz-date"} <= set(names):
        raise BadSignature("host and x-amz-date must be signed")
    actual_hash = payload_hash(request.body)
    if headers.get("x-amz-content-sha256", actual_hash) != actual_hash:
        raise BadSignature("x-amz-content-sha256 is not the body's hash; a body cannot stay unsigned")
    secret_key = keys.get(match["key"])
    if secret_key is None:
        raise BadSignature(f"its access key is none of {', '.join(keys)}")
    token = headers.get("x-amz-security-token", "") if "x-amz-security-token" in names else ""
    signer = RequestSigner(
        SigningKey(Credentials(match["key"], secret_key, token), region=naming.REGION, service=_SERVICE),
        method=request.method,
        path=sent_path,
        query=request.query,
        headers=tuple((name, headers.get(name, "")) for name in names if name not in _ADDED),
    )
    if not hmac.compare_digest(signer.signature(actual_hash, signed_at), match["signature"].encode()):
        raise BadSignature("the signature does not fit the request")
    return match["key"]


def _headers(request: UrlRequest) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for name, value in request.headers:
        values.setdefault(name.lower(), []).append(value)
    return {name: ",".join(found) for name, found in values.items()}


def _time_of(stamp: str) -> float:
    if not _STAMP.fullmatch(stamp):
        raise BadSignature("it has no x-amz-date")
    try:
        return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise BadSignature("its x-amz-date is no date") from None
