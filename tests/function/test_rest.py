"""REST by google.api.http: what of the HTTP request becomes which field, and what comes back."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import timestamp_pb2, wrappers_pb2

from lambda_fn import LambdaServer
from lambda_fn.events import shape_of
from lambda_fn.protocols.http_status import HTTP_STATUS
from lambda_fn.protocols.protocol import Exchange
from lambda_fn.protocols.rest import Rest
from tests.support import library
from tests.support.http_events import FRONT_ENDS, HttpCaller, Request, function_url
from tests.support.lambda_channel import LambdaContextDouble
from tests.support.library import message

BOOK = "shelves/1/books/2"


@pytest.fixture(scope="module")
def server() -> Iterator[LambdaServer]:
    server = LambdaServer()
    library.add(server)
    yield server
    server.close()


@pytest.fixture
def http(server: LambdaServer) -> HttpCaller:
    return HttpCaller(server.handler)


def read(verb: str, path: str, body: bytes = b"") -> tuple[str, Any]:
    """The method and the request message that this HTTP request becomes."""
    event = function_url(Request(verb, path, body))
    accepted = Rest(lambda: [library.SERVICE]).accept(shape_of(event).decode(event))
    assert isinstance(accepted, Exchange), accepted
    call = accepted.decode(None)
    name = call.method.rpartition("/")[2]
    return name, library.request_of(name, b"".join(call.messages))


# -- which method, which fields --


@pytest.mark.parametrize(
    ("verb", "path", "method", "name"),
    [
        ("GET", f"/v1/{BOOK}", "GetBook", BOOK),
        ("GET", "/v1/books/x", "GetBook", "x"),
        ("GET", "/v1/books/a%20b%2Fc", "GetBook", "a b/c"),
        ("GET", "/v1/files/a/b/c.txt", "GetBook", "a/b/c.txt"),
        ("GET", "/v1/files/a%2Fb/c%20d", "GetBook", "a%2Fb/c d"),
        ("DELETE", f"/v1/{BOOK}", "DeleteBook", BOOK),
        ("POST", f"/v1/{BOOK}:publish", "PublishBook", BOOK),
        ("PURGE", f"/v1/{BOOK}", "PurgeBook", BOOK),
    ],
)
def test_verb_and_path_choose_the_method_and_fill_its_fields(
    verb: str, path: str, method: str, name: str
) -> None:
    """Templates with one segment and several, additional bindings, custom verbs and kinds."""
    assert (method, message("GetBookRequest", name=name)) == read(verb, path)


def test_the_query_fills_fields() -> None:
    """Numbers, repeated fields, nested ones, enums by name and number, wrappers, timestamps; names as in the .proto and as in JSON."""
    query = (
        "pageSize=5&tags=a&tags=b%26c&like.author.name=A&like.genre=POETRY&like.in_print=true&like.signed=1"
        "&like.pages=9007199254740993&like.cover=AP8%3D&like.price=1.5&since=2026-01-02T03:04:05Z&genres=NOVEL&genres=2"
    )
    like = message(
        "Book",
        author=message("Author", name="A"),
        genre=2,
        in_print=wrappers_pb2.BoolValue(value=True),
        signed=True,
        pages=9007199254740993,
        cover=b"\x00\xff",
        price=1.5,
    )

    assert (
        "ListBooks",
        message(
            "ListBooksRequest",
            shelf="shelves/1",
            page_size=5,
            tags=["a", "b&c"],
            like=like,
            since=timestamp_pb2.Timestamp(seconds=1767323045),
            genres=[1, 2],
        ),
    ) == read("GET", f"/v1/shelves/1/books?{query}")


def test_names_in_the_query_that_are_no_fields_are_passed_over() -> None:
    """Callers and proxies add their own."""
    assert (
        "ListBooks",
        message("ListBooksRequest", shelf="shelves/1", page_size=5),
    ) == read("GET", "/v1/shelves/1/books?utm_source=x&page_size=5&like.nothing=1&books.title=x")


def test_a_field_may_be_the_body() -> None:
    """body: "book": the rest comes from path and query."""
    assert (
        "CreateBook",
        message(
            "CreateBookRequest",
            shelf="shelves/1",
            request_id="r",
            book=message("Book", title="T", pages=3),
        ),
    ) == read("POST", "/v1/shelves/1/books?request_id=r", b'{"title": "T", "pages": "3"}')


def test_the_whole_message_may_be_the_body() -> None:
    """body: "*": the path wins over it, the query does not count, fields it does not know are passed over."""
    body = b'{"name": "from the body", "title": "T", "inPrint": false, "later": {"x": 1}}'

    assert (
        "ReplaceBook",
        message("Book", name=BOOK, title="T", in_print=wrappers_pb2.BoolValue(value=False)),
    ) == read("PUT", f"/v1/{BOOK}?pages=3", body)


def test_the_path_may_fill_a_nested_field() -> None:
    """{author.name}, beside what the body says."""
    assert (
        "RenameAuthor",
        message("Book", title="T", author=message("Author", name="A")),
    ) == read("PATCH", "/v1/authors/A", b'{"title": "T"}')


@pytest.mark.parametrize(
    ("verb", "path", "body", "reason"),
    [
        ("PUT", f"/v1/{BOOK}", b"{", "library.v1.Book"),
        ("PUT", f"/v1/{BOOK}", b'{"pages": "many"}', "pages"),
        ("PUT", f"/v1/{BOOK}", b"[" * 100_000, "library.v1.Book"),
        ("PUT", f"/v1/{BOOK}", b"\xff", "library.v1.Book"),
        ("POST", "/v1/shelves/1/books", b"{", "the body is not JSON"),
        ("POST", "/v1/shelves/1/books", b"5", "library.v1.CreateBookRequest"),
        ("POST", "/v1/shelves/1/books", b'{"genre": 1e999}', "library.v1.CreateBookRequest"),
        ("POST", "/v1/shelves/1/books", b'{"\\ud800": 1}', "library.v1.CreateBookRequest"),
        ("GET", "/v1/shelves/1/books?page_size=x", b"", "page_size"),
        ("GET", "/v1/shelves/1/books?page_size=1&page_size=2", b"", "has 2 values"),
        ("GET", "/v1/shelves/1/books?like=x", b"", "library.v1.ListBooksRequest"),
        ("GET", "/v1/shelves/1/books?like.genre=HORROR", b"", "genre"),
        ("GET", "/v1/shelves/1/books?like.signed=maybe", b"", "signed"),
    ],
)
def test_what_does_not_fit_the_message_is_invalid_argument(
    http: HttpCaller, verb: str, path: str, body: bytes, reason: str
) -> None:
    """400, and a google.rpc.Status that says what."""
    answer = http.send(verb, path, body)

    assert (400, 3) == (answer.status, answer.json["code"])
    assert reason in answer.json["message"]


def test_a_body_may_be_compressed(http: HttpCaller) -> None:
    """content-encoding, bounded as everything that is inflated."""
    packed = gzip.compress(b'{"title": "T"}')
    bomb = gzip.compress(bytes(5 << 20))
    headers = {"content-encoding": "gzip"}

    assert "T" == http.send("PUT", f"/v1/{BOOK}", packed, headers=headers).json["title"]
    assert 429 == http.send("PUT", f"/v1/{BOOK}", bomb, headers=headers).status
    assert 501 == http.send("PUT", f"/v1/{BOOK}", b"x", headers={"content-encoding": "br"}).status


# -- what comes back --


def test_the_reply_is_the_message_in_json(http: HttpCaller) -> None:
    """Fields without a value are there too; metadata in headers, trailing metadata under grpc-gateway's prefix."""
    http.send("GET", "/v1/books/x")
    answer = http.send("GET", "/v1/books/x")

    assert (200, {"name": "x", "view": ""}) == (answer.status, answer.json)
    assert {
        "content-type": "application/json",
        "initial": "i",
        "grpc-trailer-trailing": "t",
        "grpc-trailer-trailing-bin": "AP8",
    } == answer.headers


def test_one_field_may_be_the_reply(http: HttpCaller) -> None:
    """response_body."""
    assert {"name": "A"} == http.send("GET", "/v1/author?author.name=A").json
    assert None is http.send("GET", "/v1/author").json


def test_an_empty_message_is_an_empty_object(http: HttpCaller) -> None:
    """google.protobuf.Empty."""
    assert b"{}" == http.send("DELETE", f"/v1/{BOOK}").body


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0]])
def test_a_failed_call_is_a_status_in_json(http: HttpCaller, code: grpc.StatusCode) -> None:
    """google.rpc.Status, under the HTTP status of its code."""
    answer = http.send("GET", f"/v1/fail/{code.name}")

    assert HTTP_STATUS[code.value[0]] == answer.status
    assert {"code": code.value[0], "message": "as asked", "details": []} == answer.json
    assert "t" == answer.headers["grpc-trailer-trailing"]


def test_rich_details_are_in_the_status(http: HttpCaller) -> None:
    """Those of known types as JSON, others in base64."""
    answer = http.send("GET", "/v1/fail/detailed")

    assert (400, "café") == (answer.status, answer.json["message"])
    assert [
        {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "why"},
        {"@type": "type.googleapis.com/no.such.Type", "value": "CAE="},
    ] == answer.json["details"]


@pytest.mark.parametrize("streams", [False, True], ids=["buffered", "streamed"])
def test_a_stream_is_one_object_a_line(server: LambdaServer, streams: bool) -> None:
    """{"result": …} each; the last one says what failed, since the 200 has left."""
    http = HttpCaller(server.handler, context=LambdaContextDouble(can_stream_replies=streams))
    answer = http.send("GET", "/v1/shelves/1/books:watch?tags=fail")
    lines = answer.body.splitlines()

    assert (200, 3) == (answer.status, len(lines))
    assert b'"title":"shelves/1 1"' in lines[1]
    assert lines[1].startswith(b'{"result":{')
    assert b'{"error":{"code":10,"message":"as asked","details":[]}}' == lines[2]


def test_a_stream_of_requests_is_unimplemented(http: HttpCaller) -> None:
    """REST has no form for it."""
    assert 501 == http.send("POST", "/v1/upload", {}).status


# -- HTTP --


def test_head_is_a_get_without_its_body(http: HttpCaller) -> None:
    """RFC 9110 9.3.2."""
    answer = http.send("HEAD", "/v1/books/x")

    assert (200, b"") == (answer.status, answer.body)
    assert "i" == answer.headers["initial"]


def test_another_verb_gets_405_and_the_right_ones(http: HttpCaller) -> None:
    """Only the path is known."""
    answer = http.send("PATCH", f"/v1/{BOOK}")

    assert (405, "DELETE, GET, PURGE, PUT") == (answer.status, answer.headers["allow"])


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/shelves/1", "/v1/books/", "/v1/books/a/b"])
def test_another_path_gets_404(http: HttpCaller, path: str) -> None:
    """No template matches."""
    assert 404 == http.send("GET", path).status


@pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=FRONT_ENDS.keys())
def test_every_front_end_leads_to_the_same_call(server: LambdaServer, front_end: Any) -> None:
    """Path, percent-encoded query with repeats, body and reply, through each shape of event."""
    http = HttpCaller(server.handler, front_end)
    listed = http.send("GET", "/v1/shelves/1/books?tags=a&tags=b%26c&pageSize=5").json
    created = http.send("POST", "/v1/shelves/1/books", {"title": "Ä"}).json

    assert ("shelves/1", ["a", "b&c"], 5) == (listed["shelf"], listed["tags"], listed["pageSize"])
    assert ("shelves/1", "Ä") == (created["shelf"], created["book"]["title"])
