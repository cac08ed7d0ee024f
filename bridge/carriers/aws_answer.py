"""Reads an HTTP answer in which AWS refuses a request: the type, message, reason, and when to retry."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from msgspec import DecodeError
from msgspec.json import Decoder

from bridge.aws.errors import refusal_of
from bridge.carriers.http1.exchange import Response
from bridge.rpc.errors import RpcError
from bridge.rpc.json_text import without_mark


def refusal_in(response: Response, *, function: str, now: float) -> RpcError:
    """Return the cause of an error answer. `function` is its name in messages. `now` is Unix seconds."""
    facts = _error_body(response.body)
    error = refusal_of(
        http_status=response.status,
        error_type=response.field(b"x-amzn-errortype") or _web_error_type(response) or facts.get("__type", ""),
        message=facts.get("message", ""),
        reason=facts.get("reason", ""),
        retry_after=parse_retry_after(response.field(b"retry-after"), now=now),
        function=function,
    )
    error.request_id = response.field(b"x-amzn-requestid") or response.field(b"lambda-web-request-id")
    error.body = response.body
    return error


def _web_error_type(response: Response) -> str:
    """Return the reason in the error type of a Web Function's platform, which writes `Prefix.Reason`."""
    return response.field(b"lambda-web-error-type").rpartition(".")[2]


_decode_error = Decoder(dict[str, object]).decode


def _error_body(body: bytes) -> dict[str, str]:
    """Return the texts in the body of an AWS error, with names in lower case. Services write `message` or `Message`."""
    try:
        fields = _decode_error(without_mark(body))
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return {name.lower(): value for name, value in fields.items() if isinstance(value, str)}


def parse_retry_after(value: str, *, now: float) -> float | None:
    """Return the seconds of a Retry-After (RFC 9110 10.2.3): a number, or a date minus `now` (Unix seconds)."""
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    date = parse_date(value)
    return None if date is None else max(0.0, date - now)


def parse_date(value: str) -> float | None:
    """Return the Unix seconds of an HTTP date, or None for anything else."""
    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
