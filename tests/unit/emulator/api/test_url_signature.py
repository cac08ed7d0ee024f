"""Signatures of requests to URLs with `auth: iam`, made by botocore."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from bridge.emulator.api.url_event import UrlRequest
from bridge.emulator.api.url_signature import LOCAL, BadSignature, known_keys, verify

HOST = "fn.lambda-url.us-east-1.localhost:9001"


def signed(
    *,
    key: str = "local",
    secret: str = "local",
    token: str | None = None,
    service: str = "lambda",
    region: str = "us-east-1",
    path: str = "/a%20b/c",
    query: str = "b=2&a=1",
    body: bytes = b"body",
    **more: str,
) -> UrlRequest:
    """A request as botocore signs it, at the present time."""
    url = f"http://{HOST}{path}" + (f"?{query}" if query else "")
    request = AWSRequest("POST", url, headers={"X-Custom": "  a   b ", **more}, data=body)
    SigV4Auth(Credentials(key, secret, token), service, region).add_auth(request)
    headers = (("Host", HOST), *request.headers.items())
    return UrlRequest("POST", path, query, headers, body, "HTTP/1.1", "127.0.0.1", 9001)


def changed(request: UrlRequest, name: str, value: str | None) -> UrlRequest:
    kept = [field for field in request.headers if field[0].lower() != name.lower()]
    if value is not None:
        kept.append((name, value))
    return msgspec.structs.replace(request, headers=tuple(kept))


def present() -> float:
    """botocore asks the clock itself; minutes lie between the import of this file and its tests."""
    return datetime.now(UTC).timestamp()


def refusal_of(request: UrlRequest, *, path: str = "/a%20b/c", now: float | None = None) -> str:
    with pytest.raises(BadSignature) as caught:
        verify(request, path, keys=LOCAL, now=present() if now is None else now)
    return str(caught.value)


@pytest.mark.parametrize("token", [None, "local"])
@pytest.mark.parametrize("body", [b"", b"body"])
def test_who_signed_rightly_is_named(token: str | None, body: bytes) -> None:
    """Session tokens are taken whatever they say: none was ever given out here."""
    assert verify(signed(token=token, body=body), "/a%20b/c", keys=LOCAL, now=present()) == "local"


@pytest.mark.parametrize(
    ("path", "query"), [("/", ""), ("/x/", "a=&b"), ("//x/../y", "q=%2F"), ("/~u/é".encode().decode("latin-1"), "")]
)
def test_paths_and_queries_are_made_canonical(path: str, query: str) -> None:
    request = signed(path=path, query=query)

    assert verify(request, path, keys=LOCAL, now=present()) == "local"


def test_a_signature_covers_method_path_query_headers_and_body() -> None:
    """Whatever is changed afterwards makes it bad."""
    request = signed()
    tampered = [
        msgspec.structs.replace(request, method="PUT"),
        msgspec.structs.replace(request, query="a=1&b=3"),
        msgspec.structs.replace(request, body=b"other"),
        changed(request, "X-Custom", "other"),
        changed(request, "Host", "other"),
    ]

    assert {"the signature does not fit the request"} == {
        *(refusal_of(one) for one in tampered),
        refusal_of(request, path="/other"),
    }


def test_another_secret_makes_another_signature() -> None:
    assert refusal_of(signed(secret="wrong")) == "the signature does not fit the request"


def test_an_unknown_key_is_refused() -> None:
    assert refusal_of(signed(key="AKIA")) == "its access key is none of local"


@pytest.mark.parametrize("late", [-301, 301])
def test_a_signature_holds_for_five_minutes(late: float) -> None:
    """Either way, as clocks differ; a second less is fine."""
    request = signed()
    at = datetime.strptime(dict(request.headers)["X-Amz-Date"], "%Y%m%dT%H%M%S%z").timestamp()

    assert "300 are allowed" in refusal_of(request, now=at + late)
    assert verify(request, "/a%20b/c", keys=LOCAL, now=at + late * 299 / 301) == "local"


@pytest.mark.parametrize("wrong", [{"service": "execute-api"}, {"region": "eu-west-1"}])
def test_the_scope_is_lambda_in_the_local_region(wrong: dict[str, Any]) -> None:
    assert refusal_of(signed(**wrong)).startswith("it is signed for another scope than ")


def test_a_body_cannot_stay_unsigned() -> None:
    request = changed(signed(), "X-Amz-Content-SHA256", "UNSIGNED-PAYLOAD")

    assert refusal_of(request).startswith("x-amz-content-sha256 is not the body's hash")


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("Authorization", None, "it has no AWS Signature Version 4 in its Authorization header"),
        ("Authorization", "Bearer s3cret", "it has no AWS Signature Version 4 in its Authorization header"),
        ("X-Amz-Date", None, "it has no x-amz-date"),
        ("X-Amz-Date", "20261399T999999Z", "its x-amz-date is no date"),
    ],
)
def test_what_is_missing_is_said_and_nothing_secret_repeated(name: str, value: str | None, why: str) -> None:
    assert why == refusal_of(changed(signed(), name, value))


def test_host_and_date_must_be_signed() -> None:
    request = signed()
    authorization = dict(request.headers)["Authorization"].replace("host;", "")

    assert "host and x-amz-date must be signed" == refusal_of(changed(request, "Authorization", authorization))


def test_known_are_the_local_keys_and_those_of_the_environment() -> None:
    """A key without its secret is none."""
    found = known_keys({"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "s"})

    assert found == {"local": "local", "AKIA": "s"}
    assert known_keys({"AWS_ACCESS_KEY_ID": "AKIA"}) == {"local": "local"}
