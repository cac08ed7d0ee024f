"""Signatures: AWS's published cases, and botocore's on anything else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st

from bridge.aws.sigv4 import Credentials, HeaderPairs, RequestSigner, SigningKey, payload_hash

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "sigv4.json").read_text())
KEYS = Credentials(VECTORS["access_key"], VECTORS["secret_key"])
NOW = float(VECTORS["now"])
DAY = 86_400

HOST = ("host", "lambda.eu-west-1.amazonaws.com")
PATH = "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Agreeter/invocations"


def signer(
    credentials: Credentials = KEYS, *, headers: HeaderPairs = (HOST,), unsigned: HeaderPairs = ()
) -> RequestSigner:
    key = SigningKey(credentials, region="eu-west-1", service="lambda")
    return RequestSigner(key, method="POST", path=PATH, query="Qualifier=live", headers=headers, unsigned=unsigned)


def authorization(made: RequestSigner, body: bytes, now: float) -> str:
    return dict(made.headers_to_add(payload_hash(body), now))["authorization"]


@pytest.fixture
def botocore_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets botocore's clock."""

    def set_to(now: float) -> None:
        at = datetime.fromtimestamp(now, UTC).replace(tzinfo=None)
        monkeypatch.setattr(auth, "get_current_datetime", lambda: at)

    return set_to


def signed_by_botocore(
    credentials: Credentials, method: str, target: str, headers: HeaderPairs, body: bytes
) -> dict[str, str]:
    """The headers of the same request as botocore signs it; its clock is set already."""
    request = AWSRequest(method, f"https://{dict(headers)['host']}{target}", data=body)
    for name, value in headers:
        request.headers.add_header(name, value)
    keys = BotocoreCredentials(credentials.access_key, credentials.secret_key, credentials.token or None)
    auth.SigV4Auth(keys, "lambda", "eu-west-1").add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_published_case(case: dict[str, Any]) -> None:
    """AWS's own examples come out as AWS says."""
    keys = Credentials(KEYS.access_key, KEYS.secret_key, case["token"])
    made = RequestSigner(
        SigningKey(keys, region="us-east-1", service="service"),
        method=case["method"],
        path=case["path"],
        query=case["query"],
        headers=tuple((name, value) for name, value in case["headers"]),
    )

    assert case["authorization"] == authorization(made, case["body"].encode(), NOW)


TOKENS = st.text(st.sampled_from("abcXYZ019+/="), max_size=40)
URL_TEXT = st.text(st.sampled_from("abzAZ09-_.~%:$@!*'()+,;"), max_size=12)
PATHS = st.lists(URL_TEXT, max_size=5).map(lambda parts: "/" + "/".join(parts))
QUERIES = st.lists(st.tuples(URL_TEXT, URL_TEXT).map(lambda pair: f"{pair[0]}={pair[1]}"), max_size=4).map("&".join)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
NAMES = st.sampled_from(["X-Amz-Client-Context", "x-amz-log-type", "Content-Type", "x-a", "X-B"])


@given(
    method=st.sampled_from(["GET", "POST", "PUT"]),
    path=PATHS,
    query=QUERIES,
    extra=st.lists(st.tuples(NAMES, VALUES), max_size=6),
    body=st.binary(max_size=200),
    token=TOKENS,
    secret=st.text(min_size=1, max_size=40),
    now=st.integers(0, 4_000_000_000),
)
def test_any_request_is_signed_as_botocore_does(
    method: str,
    path: str,
    query: str,
    extra: list[tuple[str, str]],
    body: bytes,
    token: str,
    secret: str,
    now: int,
) -> None:
    """Whatever is signed, the signature is botocore's, byte for byte."""
    keys = Credentials("AKID", secret, token)
    headers = (HOST, *extra)
    made = RequestSigner(
        SigningKey(keys, region="eu-west-1", service="lambda"),
        method=method,
        path=path,
        query=query,
        headers=headers,
    )
    added = dict(made.headers_to_add(payload_hash(body), now + 0.9))
    with pytest.MonkeyPatch.context() as patch:
        at = datetime.fromtimestamp(now, UTC).replace(tzinfo=None)
        patch.setattr(auth, "get_current_datetime", lambda: at)
        theirs = signed_by_botocore(keys, method, f"{path}?{query}", headers, body)

    assert theirs["authorization"] == added["authorization"]
    assert theirs["x-amz-date"] == added["x-amz-date"]
    assert theirs.get("x-amz-security-token") == added.get("x-amz-security-token")


def test_one_signer_serves_many_times_and_bodies(botocore_at: Any) -> None:
    """What is kept between signatures changes with the second and the day, forwards and backwards."""
    made = signer()
    for now in (NOW, NOW, NOW + 1, NOW + DAY, NOW + 366 * DAY, NOW - 1, NOW):
        for body in (b"", b"{}", b"a" * 100_000):
            botocore_at(now)
            theirs = signed_by_botocore(KEYS, "POST", f"{PATH}?Qualifier=live", (HOST,), body)

            assert theirs["authorization"] == authorization(made, body, now)


def test_head_is_the_request_as_signed() -> None:
    """The head holds request line, signed fields, date, token, authorization and length; unsigned fields travel
    along.
    """
    keys = Credentials("AKID", "secret", "session/token==")
    headers = (HOST, ("content-type", "application/json"))
    made = signer(keys, headers=headers, unsigned=(("user-agent", "bridge"),))
    head = made.head(payload_hash(b"{}"), 2, NOW).decode()
    line, *fields = head.removesuffix("\r\n\r\n").split("\r\n")

    assert f"POST {PATH}?Qualifier=live HTTP/1.1" == line
    assert [
        f"host: {HOST[1]}",
        "content-type: application/json",
        "x-amz-security-token: session/token==",
        "x-amz-date: 20150830T123600Z",
        "user-agent: bridge",
        f"authorization: {authorization(made, b'{}', NOW)}",
        "content-length: 2",
    ] == fields
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token," in head


def test_path_without_query_has_no_question_mark() -> None:
    made = RequestSigner(
        SigningKey(KEYS, region="eu-west-1", service="lambda"),
        method="POST",
        path="/a%20b",
        headers=(HOST,),
    )

    assert made.head(payload_hash(b""), 0, NOW).startswith(b"POST /a%20b HTTP/1.1\r\n")


def test_secrets_are_not_shown() -> None:
    """Neither key nor token can reach a log through a repr."""
    shown = f"{Credentials('AKID', 'very-secret', 'very-token', 17.0)!r}"

    assert "Credentials(<hidden>, expires_at=17.0)" == shown
