from __future__ import annotations

import pytest

from bridge.codecs.fields import LONGEST_VALUE, MOST_METADATA, sort_fields
from bridge.rpc.status import Status, StatusCode


def test_metadata_keeps_order_and_repetition() -> None:
    fields = (("x-b", "1"), ("x-a", "2"), ("x-b", "3"))

    assert fields == sort_fields(fields).metadata


def test_what_the_reply_says_of_itself_is_no_metadata() -> None:
    """Status, encoding and type of the body come out by themselves."""
    sorted_fields = sort_fields(
        (
            ("content-type", "Application/GRPC-Web; charset=utf-8"),
            ("grpc-status", "5"),
            ("grpc-message", "no"),
            ("grpc-encoding", "gzip"),
        )
    )

    assert not sorted_fields.metadata
    assert Status(StatusCode.NOT_FOUND, "no") == sorted_fields.status
    assert "application/grpc-web" == sorted_fields.content_type
    assert "gzip" == sorted_fields.encoding


def test_absent_fields() -> None:
    nothing = sort_fields(())

    assert nothing.status is None
    assert ("", "") == (nothing.content_type, nothing.encoding)


@pytest.mark.parametrize(
    "name",
    [
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "proxy-authenticate",
        "content-length",
        "content-encoding",
        "content-disposition",
        "date",
        "server",
        "via",
        "x-cache",
        "x-amz-cf-id",
        "x-amzn-requestid",
        "x-amzn-trace-id",
        "apigw-requestid",
        "lambda-web-request-id",
        "lambda-web-error-type",
        "grpc-timeout",
        "grpc-foo",
        ":status",
        "",
        "x a",
        "x\r\ny",
        "é",
    ],
)
def test_fields_that_go_no_further(name: str) -> None:
    assert not sort_fields(((name, "1"),)).metadata


@pytest.mark.parametrize(
    "name",
    ["x-a", "set-cookie", "www-authenticate", "grpc-accept-encoding", "grpc-retry-pushback-ms"],
)
def test_fields_that_reach_the_client(name: str) -> None:
    assert ((name, "1"),) == sort_fields(((name, "1"),)).metadata


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("a\r\nb", "ab"),
        ("a\0b", "ab"),
        (" a ", "a"),
        ("caf\xe9", "caf"),
        ("a\tb", "ab"),
        ("a,b", "a,b"),
    ],
)
def test_values_are_cleaned(sent: str, kept: str) -> None:
    """No CR, LF, NUL nor anything else that gRPC forbids reaches a client."""
    assert (("x-a", kept),) == sort_fields((("x-a", sent),)).metadata


def test_remapped_names_are_restored_first() -> None:
    """Then they are treated as what they are."""
    fields = (
        ("x-amzn-remapped-www-authenticate", "Basic"),
        ("x-amzn-remapped-content-length", "3"),
        ("x-amzn-remapped-content-type", "application/grpc-web"),
    )

    found = sort_fields(fields)

    assert (("www-authenticate", "Basic"),) == found.metadata
    assert "application/grpc-web" == found.content_type


def test_metadata_by_the_million_is_left_out_and_the_status_is_not() -> None:
    """Whether they are fields, or values in one field."""
    many = [(f"m{number}", "v") for number in range(2 * MOST_METADATA)]
    joined = ("x-bin", "YQ," * 2 * MOST_METADATA)
    huge = ("a", "v" * (LONGEST_VALUE + 1))
    status = ("grpc-status", "5")

    assert tuple(many[:MOST_METADATA]) == sort_fields([*many, status]).metadata
    assert MOST_METADATA == len(sort_fields([("x", "y"), joined, status]).metadata)
    assert (("x", "y"),) == sort_fields([huge, ("x", "y"), status]).metadata
    assert Status(StatusCode.NOT_FOUND) == sort_fields([*many, status]).status


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("AAE=", ["AAE"]),
        ("a_b-c", []),
        ("a", []),
        ("AAAAA", []),
        ("!, AQ==,AAEC", ["AQ", "AAEC"]),
        ("", [""]),
    ],
)
def test_only_what_a_client_can_decode_reaches_it_in_binary_metadata(value: str, kept: list[str]) -> None:
    """Some clients fail all later calls of a connection over others."""
    assert tuple([("x-bin", part) for part in kept]) == sort_fields((("x-bin", value),)).metadata


@pytest.mark.parametrize(
    ("value", "sent"),
    [("50", "50"), ("-1", "-1"), ("abc", "-1"), ("", "-1"), ("99999999999", "-1")],
)
def test_a_pushback_that_is_no_number_says_do_not_repeat(value: str, sent: str) -> None:
    """gRFC A6; some clients fail all later calls of a connection over it."""
    name = "grpc-retry-pushback-ms"

    assert ((name, sent),) == sort_fields(((name, value),)).metadata
