"""The header block of a request: a call's head, or the answer that refuses it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.carriers.duplex.carrier import FACTS
from bridge.carriers.grpc.call import REQUEST_ID_FIELD
from bridge.http2.events import Fields
from bridge.http2.headers import size_of_names
from bridge.rpc.status import StatusCode
from bridge.server import request
from bridge.server.request import Refusal, RequestHead, parse_request_head

_HEAD: Fields = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a.B/C"),
    (":authority", "bridge:50051"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
)


def _with(*fields: tuple[str, str], without: str = "") -> Fields:
    return (*(field for field in _HEAD if field[0] != without), *fields)


def _head(*fields: tuple[str, str], without: str = "") -> RequestHead:
    head = parse_request_head(_with(*fields, without=without))
    assert isinstance(head, RequestHead)
    return head


def _refusal(*fields: tuple[str, str], without: str = "") -> Refusal:
    refusal = parse_request_head(_with(*fields, without=without))
    assert isinstance(refusal, Refusal)
    return refusal


def test_plain_call_has_a_path_and_an_authority() -> None:
    """No metadata, no timeout."""
    assert RequestHead("/a.B/C", (), "application/grpc", "bridge:50051", None) == _head()


# -- protocol-facts 1.1 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS", "HEAD", "post"])
def test_method_other_than_post_is_405(method: str) -> None:
    """With `allow`, for whoever reads HTTP, and a gRPC status for whoever reads that."""
    refusal = _refusal((":method", method), without=":method")

    assert (405, StatusCode.INTERNAL) == (refusal.http_status, refusal.status.code)
    assert ("allow", "POST") in refusal.fields


@pytest.mark.parametrize("path", ["/", "no-slash", "/a.B", "/a.B/C/D", "*", "/a.B/C?x=1"])
def test_odd_path_is_the_routers_to_refuse(path: str) -> None:
    """UNIMPLEMENTED is a gRPC answer, so the call is counted and logged like any other."""
    assert path == _head((":path", path), without=":path").path


@pytest.mark.parametrize(
    "content_type",
    [
        "image/jpeg",
        "application/json",
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpcfoo",
        "application/grp",
        "text/plain; application/grpc",
        "",
    ],
)
def test_content_type_that_is_not_grpc_is_415(content_type: str) -> None:
    """So that plain HTTP/2 clients do not take the answer for success."""
    refusal = _refusal(("content-type", content_type), without="content-type")

    assert (415, StatusCode.INTERNAL) == (refusal.http_status, refusal.status.code)


def test_missing_content_type_is_415() -> None:
    """Nothing says that it is gRPC."""
    assert 415 == _refusal(without="content-type").http_status


@pytest.mark.parametrize(
    "content_type",
    [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc;charset=utf-8",
        "application/grpc+json",
    ],
)
def test_grpc_content_type_is_kept_as_sent(content_type: str) -> None:
    """The client gets it back; unknown formats are the target's concern."""
    head = _head(("content-type", content_type), without="content-type")

    assert content_type == head.content_type


def test_missing_te_is_accepted() -> None:
    """It exists to catch proxies; grpc-java only warns."""
    assert () == _head(without="te").metadata


def test_host_stands_in_for_a_missing_authority() -> None:
    """gRFC A41."""
    assert "old.example" == _head(("host", "old.example"), without=":authority").authority


def test_host_beside_an_authority_is_dropped() -> None:
    """Also from the metadata, even when they differ."""
    head = _head(("host", "other.example"))

    assert "bridge:50051" == head.authority
    assert () == head.metadata


def test_two_hosts_are_refused() -> None:
    """As grpc-go and grpc-java do."""
    refusal = _refusal(("host", "a"), ("host", "b"))

    assert (400, StatusCode.INTERNAL) == (refusal.http_status, refusal.status.code)


def test_metadata_keeps_its_order_and_repetitions() -> None:
    """Binary and text."""
    pairs = (("b", "1"), ("a", "2"), ("b", "3"), ("x-bin", "AAEC"), ("x-bin", "AA,AQ"))

    assert pairs == _head(*pairs).metadata


@pytest.mark.parametrize(
    "name",
    [
        *("grpc-internal-foo", "grpc-status", "grpc-message", "grpc-status-details-bin"),
        *(FACTS, REQUEST_ID_FIELD),  # a function believes them
    ],
)
def test_reserved_names_are_not_metadata(name: str) -> None:
    """`grpc-*` is gRPC's own, and what it means here has been taken out."""
    assert () == _head((name, "AA")).metadata


@pytest.mark.parametrize(
    "name",
    [
        "grpc-encoding",
        "grpc-accept-encoding",
        "grpc-previous-rpc-attempts",
        "grpc-trace-bin",
        "grpc-tags-bin",
    ],
)
def test_reserved_names_that_concern_the_function_travel_on(name: str) -> None:
    """Compression, attempts, tracing."""
    assert ((name, "AA"),) == _head((name, "AA")).metadata


@pytest.mark.parametrize(
    "name",
    ["content-length", "te", "keep-alive", "trailer", "proxy-authorization", "http2-settings"],
)
def test_names_of_one_connection_are_not_metadata(name: str) -> None:
    """They end here."""
    assert () == _head((name, "1"), without="te").metadata


@pytest.mark.parametrize("value", ["caf\xe9", "tab\there", ""])
def test_value_that_only_http_allows_does_not_fail_the_call(value: str) -> None:
    """PROTOCOL-HTTP2: must not error on it."""
    assert (("x", value),) == _head(("x", value)).metadata


# -- protocol-facts 1.2 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "seconds"), [("500m", 0.5), ("0m", 0.0), ("2H", 7200.0)])
def test_timeout_is_read_and_not_metadata(text: str, seconds: float) -> None:
    """Zero is legal: the call ends at once, by its deadline."""
    head = _head(("grpc-timeout", text))

    assert (seconds, ()) == (head.timeout, head.metadata)


@pytest.mark.parametrize("text", ["", "5", "S", "-1S", "123456789S", "1s"])
def test_malformed_timeout_is_refused(text: str) -> None:
    """HTTP 400 and INTERNAL, as grpc-go."""
    refusal = _refusal(("grpc-timeout", text))

    assert (400, StatusCode.INTERNAL) == (refusal.http_status, refusal.status.code)
    assert "bad_timeout" == refusal.kind


# -- protocol-facts 1.3 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["AAEC", "AAE=", "AA==", "AA", "AAEC==", "", "AA,AQ", "AA== , AQ", "+/+/"])
def test_binary_value_is_passed_as_it_came(value: str) -> None:
    """Padded or not, one or several."""
    assert (("x-bin", value),) == _head(("x-bin", value)).metadata


@pytest.mark.parametrize("value", ["!!", "A", "AAECA", "AA=A", "AA,!", "-_-_", "caf\xe9", "AAEC===="])
def test_binary_value_that_is_no_base64_is_refused(value: str) -> None:
    """Naming the field, never its value."""
    refusal = _refusal(("x-secret-bin", value))

    assert (400, StatusCode.INTERNAL) == (refusal.http_status, refusal.status.code)
    assert "the metadata x-secret-bin is not base64" == refusal.status.message


def test_long_binary_value_is_checked_in_linear_time() -> None:
    """Sixteen times the letters, which fail at the last one, cost sixteen times as much and not 256 times."""

    def cpu_of(kibibytes: int) -> float:
        value = "AAAA," * 70 * kibibytes + "A" * 660 * kibibytes + "!"
        costs = []
        for _ in range(10):
            before = time.process_time()
            for _ in range(16 // kibibytes):
                _refusal(("x-bin", value))
            costs.append((time.process_time() - before) / (16 // kibibytes))
        return min(costs)

    assert cpu_of(16) < 4 * 16 * cpu_of(1)


def test_refusal_is_one_block_with_both_statuses() -> None:
    """The pseudo-header first, the message percent-encoded."""
    refusal = _refusal(("host", "a"), ("host", "b"))

    assert not refusal.is_not_grpc
    assert (
        (":status", "400"),
        ("content-type", "application/grpc"),
        ("grpc-status", "13"),
        ("grpc-message", "more than one host"),
    ) == refusal.fields


def test_foreign_request_gets_an_answer_to_read() -> None:
    """With a body, and gRPC's status behind it."""
    refusal = _refusal((":method", "GET"), without=":method")

    assert refusal.is_not_grpc
    assert ((":status", "405"), ("content-type", "text/plain; charset=utf-8"), ("allow", "POST")) == refusal.head
    assert b"gRPC calls are POST requests\n" == refusal.text
    assert not _refusal((":method", "HEAD"), without=":method").is_not_grpc
    assert (("grpc-status", "13"), ("grpc-message", "gRPC calls are POST requests")) == refusal.end


# -- the two ways to read a list --------------------------------------------------------------------------------------

_SOME_FIELDS = st.sampled_from(
    [
        (":authority", "other"),
        (":authority", ""),
        ("host", "other"),
        ("te", "trailers"),
        ("content-type", "application/grpc+json"),
        ("content-type", "text/html"),
        ("grpc-timeout", "5S"),
        ("grpc-timeout", "5s"),
        ("grpc-timeout", "99999999H"),
        ("grpc-encoding", "gzip"),
        ("grpc-message", "no"),
        ("x-a", "1"),
        ("x-a", "2"),
        ("x-b-bin", "AAA="),
        ("x-b-bin", "A"),
        ("user-agent", "grpc-go"),
        ("connection", "close"),
        ("x-c", "3"),
    ]
)


@given(
    st.lists(_SOME_FIELDS, max_size=6),
    st.sampled_from(["", ":method", ":path", ":authority", "content-type", "te"]),
    st.sampled_from(["POST", "GET", "HEAD"]),
)
def test_fast_path_reads_what_the_closer_look_reads(more: list[tuple[str, str]], without: str, method: str) -> None:
    """Heads and refusals, with names that are missing, repeated, in another order or bad."""
    head = ((":method", method), *_HEAD[1:])
    for fields in (
        (*(field for field in head if field[0] != without), *more),
        (*more, *(field for field in head if field[0] != without)),
    ):
        assert request._look_through(fields) == parse_request_head(fields)


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("user-agent",),
        ("user-agent", "te", "x-a", "x-a"),
        ("x-a", "grpc-timeout", "x-b", "grpc-encoding", "x-c-bin"),
    ],
)
def test_usual_names_have_places(more: tuple[str, ...]) -> None:
    """So that such calls are read without a closer look."""
    assert request._PLACES[(":method", ":scheme", ":path", ":authority", "content-type", *more)] is not None


def test_memory_for_names_is_bounded() -> None:
    for number in range(1000):
        _head((f"x-{number}", "1"))
    _head(("x" * 3000, "1"))

    assert len(request._PLACES) <= 256
    assert max(map(size_of_names, request._PLACES)) <= 2048
