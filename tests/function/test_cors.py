"""What browsers ask before and after a call from a page of another origin."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.behaviours import SYNC
from tests.support.http_events import FRONT_ENDS, HttpCaller
from tests.support.lambda_channel import Serve, frame

PAGE = "https://app.example.com"
PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type,x-grpc-web,x-custom",
}
CALL = {"origin": PAGE, "content-type": "application/grpc-web+proto"}


def caller(serve: Serve, front_end: Any = FRONT_ENDS["function URL"], **arguments: Any) -> HttpCaller:
    return HttpCaller(serve(SYNC, **arguments).server.handler, front_end)


@pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=FRONT_ENDS.keys())
def test_a_preflight_is_allowed(serve: Serve, front_end: Any) -> None:
    """Whatever names of metadata it asks for, through every front end."""
    answer = caller(serve, front_end).send("OPTIONS", "/test.Test/Metadata", headers=PREFLIGHT)

    assert (204, b"") == (answer.status, answer.body)
    assert "*" == answer.headers["access-control-allow-origin"]
    assert "content-type,x-grpc-web,x-custom" == answer.headers["access-control-allow-headers"]
    assert "POST" in answer.headers["access-control-allow-methods"]


def test_a_page_may_read_status_and_metadata(serve: Serve) -> None:
    """Status and details of a trailers-only reply, and each header that is there, are exposed by name."""
    http = caller(serve)
    failed = http.send("POST", "/test.Test/Aborts", frame(b""), headers=CALL).headers
    answered = http.send("POST", "/test.Test/Metadata", frame(b""), headers=CALL).headers
    exposed = failed["access-control-expose-headers"].split(", ")

    assert "*" == failed["access-control-allow-origin"]
    assert {"grpc-status", "grpc-message", "grpc-status-details-bin", "trailing"} <= set(exposed)
    assert len(exposed) == len(set(exposed))
    assert "initial-bin" in answered["access-control-expose-headers"]


def test_credentials_are_never_allowed(serve: Serve) -> None:
    """A page of any origin can do no more than curl."""
    http = caller(serve)
    preflight = http.send("OPTIONS", "/test.Test/Echo", headers=PREFLIGHT)
    answer = http.send("POST", "/test.Test/Echo", frame(b""), headers=CALL)

    assert "access-control-allow-credentials" not in {**preflight.headers, **answer.headers}


def test_only_listed_origins(serve: Serve) -> None:
    """The origin is repeated and caches are told; another page hears 403, and no header on a call."""
    http = caller(serve, cors=[PAGE, "http://localhost:3000"])
    evil = {"origin": "https://evil.example.com"}
    allowed = http.send("OPTIONS", "/test.Test/Echo", headers=PREFLIGHT)
    refused = http.send("OPTIONS", "/test.Test/Echo", headers=PREFLIGHT | evil)
    unread = http.send("POST", "/test.Test/Echo", frame(b""), headers=CALL | evil)

    assert (PAGE, "origin") == (
        allowed.headers["access-control-allow-origin"],
        allowed.headers["vary"],
    )
    assert 403 == refused.status
    assert "access-control-allow-origin" not in {**refused.headers, **unread.headers}


def test_off(serve: Serve) -> None:
    """cors=None: the URL's or the API's own settings answer."""
    http = caller(serve, cors=None)

    assert 405 == http.send("OPTIONS", "/test.Test/Echo", headers=PREFLIGHT).status
    assert {"content-type"} == set(http.send("POST", "/test.Test/Echo", frame(b""), headers=CALL).headers)


def test_those_who_are_no_browser_hear_nothing_of_it(serve: Serve) -> None:
    """Native clients would see it as metadata."""
    answer = caller(serve).send("POST", "/test.Test/Echo", frame(b""), headers={"content-type": "application/grpc-web"})

    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_an_options_that_is_no_preflight_gets_405(serve: Serve) -> None:
    """It names no method to be allowed."""
    assert 405 == caller(serve).send("OPTIONS", "/test.Test/Echo", headers={"origin": PAGE}).status


@pytest.mark.parametrize("origins", ["app.example.com", "https://a/", [PAGE, "x"], ""])
def test_what_is_no_origin_is_refused(serve: Serve, origins: Any) -> None:
    """When the server is made, not when a browser fails."""
    with pytest.raises(ValueError, match="no origin"):
        caller(serve, cors=origins)
