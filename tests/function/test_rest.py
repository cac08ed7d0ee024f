"""REST by google.api.http: what of the HTTP request becomes which field, and what comes back."""

from __future__ import annotations

import gzip
import json
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
from lambda_fn.status import CutOff
from tests.support import library
from tests.support.http_events import FRONT_ENDS, HttpCaller, Request, function_url, rest_api
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
def test_verb_and_path_choose_the_method_and_fill_its_fields(verb: str, path: str, method: str, name: str) -> None:
    """Templates with one segment and several, additional bindings, custom verbs and kinds."""
    assert (method, message("GetBookRequest", name=name)) == read(verb, path)


def test_the_query_fills_fields() -> None:
    """Numbers, repeated fields, nested ones, enums by name and number, wrappers, timestamps; names as in the .proto and
    as in JSON.
    """
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
    ) == read("GET", "/v1/shelves/1/books?utm_source=x&page_size=5&like.nothing=1&nothing.title=x")


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


# -- what would be something else --


@pytest.mark.parametrize(
    ("verb", "path", "body", "reason"),
    [
        ("GET", "/v1/books/%ff", b"", "UTF-8"),
        ("GET", "/v1/books/a%C3", b"", "UTF-8"),
        ("GET", "/v1/files/a/%ff", b"", "UTF-8"),
        ("GET", "/v1/books/%zz", b"", "percent sign"),
        ("GET", "/v1/shelves/1/books?tags=%ff", b"", "UTF-8"),
        ("GET", "/v1/shelves/1/books?%ff=1", b"", "UTF-8"),
        ("GET", "/v1/shelves/1/books?tags=%4", b"", "percent sign"),
        ("GET", "/v1/choices?text=a&number=1", b"", "oneof"),
        ("GET", "/v1/choices?text=a&book.title=b", b"", "oneof"),
        ("GET", "/v1/choices?book.title=b&number=0", b"", "oneof"),
        ("GET", "/v1/choices?text=&number=0", b"", "oneof"),
        ("GET", "/v1/choices/a?number=1", b"", "oneof"),
        ("GET", "/v1/choices/a:open?number=1", b"", "oneof"),
        ("POST", "/v1/choices?number=1", b'{"title": "T"}', "oneof"),
        ("PUT", "/v1/choices/a", b'{"number": 1}', "oneof"),
        ("PUT", "/v1/choices/a", b'{"number": 1, "book": {}}', "oneof"),
        ("GET", "/v1/choices?blob=+/+/", b"", "base64"),
        ("GET", "/v1/choices?blob=Y!Q", b"", "base64"),
        ("GET", "/v1/choices?weight=3.5e38", b"", "too large"),
        ("GET", "/v1/choices?weight=1_0", b"", "weight"),
        ("GET", "/v1/choices?weight=", b"", "weight"),
        ("GET", "/v1/choices?book=", b"", "library.v1.Book"),
        ("PUT", "/v1/choices/a", b"null", "null"),
        ("PUT", "/v1/choices/a", b"[]", "a list"),
        ("PUT", "/v1/choices/a", b'""', "a string"),
        ("PUT", "/v1/choices/a", b'{"blob": "YQ", "blob": "Yg"}', "twice"),
        ("POST", "/v1/choices", b"[]", "a list"),
        ("POST", "/v1/choices", b"[" * 100_000, "levels"),
        ("POST", "/v1/choices", b'{"title": "a", "title": "b"}', "twice"),
        ("PUT", "/v1/choices/a", b"[" * 100_000, "levels"),
        # One field by both of its names, which are two keys of the query.
        ("GET", "/v1/shelves/1/books?page_size=1&pageSize=2", b"", "2 values"),
        ("GET", "/v1/shelves/1/books?like.in_print=true&like.inPrint=false", b"", "2 values"),
        # google/api/http.proto maps fields of single messages to the query, and no others.
        ("GET", "/v1/shelves/1/books?books.title=x", b"", "books.title: books is a repeated message"),
        ("GET", "/v1/shelves/1/books?books.author.name=x", b"", "books.author.name: books is a repeated message"),
        ("GET", "/v1/shelves/1/books?books.nothing=x", b"", "books.nothing: books is a repeated message"),
        ("GET", "/v1/shelves/1/books?books=x", b"", "books"),
        ("GET", "/v1/shelves/1/books?labels.a=x", b"", "labels.a: labels is a map"),
        ("GET", "/v1/shelves/1/books?labels.key=a&labels.value=x", b"", "labels.key: labels is a map"),
        ("GET", "/v1/shelves/1/books?byTitle.a.pages=3", b"", "byTitle.a.pages: by_title is a map"),
        ("GET", "/v1/shelves/1/books?labels=x", b"", "labels"),
        ("GET", "/v1/shelves/1/books?page_size.x=3", b"", "page_size.x: page_size is not a message"),
        ("GET", "/v1/shelves/1/books?genres.x=3", b"", "genres.x: genres is not a message"),
    ],
)
def test_what_could_be_read_as_something_else_is_refused(
    http: HttpCaller,
    caplog: pytest.LogCaptureFixture,
    verb: str,
    path: str,
    body: bytes,
    reason: str,
) -> None:
    """400 with the reason, and nothing in the log: the mistake is the caller's."""
    answer = http.send(verb, path, body)

    assert (400, 3) == (answer.status, answer.json["code"])
    assert reason in answer.json["message"]
    assert "Error" not in answer.json["message"]
    assert [] == caplog.records


@pytest.mark.parametrize(
    ("verb", "path", "body", "fields"),
    [
        ("GET", "/v1/choices?text=a", b"", {"text": "a"}),
        ("PUT", "/v1/choices/a", b'{"text": "b"}', {"text": "a"}),
        ("GET", "/v1/choices?book.title=a&book.pages=3", b"", {"book": {"title": "a", "pages": 3}}),
        ("POST", "/v1/choices?book.pages=3", b'{"title": "a"}', {"book": {"title": "a"}}),
        ("POST", "/v1/choices?number=3", b"", {"number": 3}),
        ("POST", "/v1/choices", b"null", {}),
        ("GET", "/v1/choices?weight=3.4028235e%2B38", b"", {"weight": 3.4028234663852886e38}),
        ("PUT", "/v1/choices/a", b'{"weight": 3.4028235e+38}', {"text": "a", "weight": 3.4028234663852886e38}),
        ("GET", "/v1/choices?blob=-_-_", b"", {"blob": b"\xfb\xff\xbf"}),
    ],
)
def test_what_is_of_one_mind_is_read(verb: str, path: str, body: bytes, fields: dict[str, Any]) -> None:
    """One member of a oneof, by path, query or body, wherever else it is named."""
    assert ("Choose", message("Choice", **fields)) == read(verb, path, body)


def test_a_body_cut_off_in_its_compression_is_a_bad_request(http: HttpCaller) -> None:
    """As is one with something behind it; gRPC calls it INTERNAL, which would be 500."""
    packed = gzip.compress(b'{"title": "T"}')
    headers = {"content-encoding": "gzip"}

    for body in (packed[:-1], packed + b"x", packed + packed, b"x"):
        assert 400 == http.send("PUT", f"/v1/{BOOK}", body, headers=headers).status


def test_metadata_that_is_not_base64_is_a_bad_request(http: HttpCaller) -> None:
    answer = http.send("GET", "/v1/books/x", headers={"x-data-bin": "!"})

    assert (400, 3) == (answer.status, answer.json["code"])


def test_a_custom_verb_is_never_part_of_a_name(http: HttpCaller) -> None:
    """GET /v1/choices/{text} does not take what POST …:publish and GET …:open take."""
    assert (405, "POST") == (
        (answer := http.send("GET", f"/v1/{BOOK}:publish")).status,
        answer.headers["allow"],
    )
    assert ("Choose", message("Choice", text="a:close")) == read("GET", "/v1/choices/a:close")


def test_no_segment_is_a_number_of_segments_too() -> None:
    """`**` matches zero or more (google/api/http.proto)."""
    for path in ("/v1/files", "/v1/files/"):
        assert ("GetBook", message("GetBookRequest")) == read("GET", path)


def test_an_escaped_slash_stays_as_it_is_written() -> None:
    assert ("GetBook", message("GetBookRequest", name="a%2fb/c/d%2F")) == read("GET", "/v1/files/a%2fb/c/d%2F")


# -- base paths --


def _mapped(event: dict[str, Any], base: str, **fields: Any) -> dict[str, Any]:
    """The event behind a custom domain's base path."""
    name = "rawPath" if "rawPath" in event else "path"
    return event | {name: base + event[name]} | fields


@pytest.mark.parametrize(
    ("resource", "parameters"),
    [
        ("/{proxy+}", {"proxy": "v1/books/x"}),
        ("/v1/{proxy+}", {"proxy": "books/x"}),
        ("/v1/books/{name}", {"name": "x"}),
    ],
)
@pytest.mark.parametrize("base", ["/shop", "/shop/eu", "/v1"])
@pytest.mark.parametrize("front_end", [function_url, rest_api])
def test_a_base_path_mapping_is_taken_off(
    server: LambdaServer, front_end: Any, base: str, resource: str, parameters: dict[str, str]
) -> None:
    """REST and HTTP APIs leave it in the path and say what their own resource is."""
    route = {"routeKey": f"ANY {resource}", "resource": resource, "pathParameters": parameters}
    event = _mapped(front_end(Request("GET", "/v1/books/x")), base, **route)
    reply: Any = server.handler(event, None)

    assert (200, "x") == (reply["statusCode"], json.loads(reply["body"])["name"])


def test_what_is_mounted_below_a_resource_is_found(server: LambdaServer) -> None:
    """The .proto knows /v1/…, the API /api/{proxy+}."""
    event = rest_api(Request("GET", "/api/v1/books/x"))
    event |= {"resource": "/api/{proxy+}", "pathParameters": {"proxy": "v1/books/x"}}

    assert 200 == server.handler(event, None)["statusCode"]  # type: ignore[index]  # not streamed


def test_a_base_path_may_be_given() -> None:
    """Where the event does not say it."""
    server = LambdaServer(base_path="/shop/eu")
    library.add(server)
    http = HttpCaller(server.handler)

    assert "x" == http.send("GET", "/shop/eu/v1/books/x").json["name"]
    assert "x" == http.send("GET", "/v1/books/x").json["name"]
    assert 404 == http.send("GET", "/shop/eux/v1/books/x").status
    assert 404 == http.send("GET", "/other/v1/books/x").status
    server.close()


@pytest.mark.parametrize("base_path", ["shop", "/", "/shop/"])
def test_a_base_path_is_a_path(base_path: str) -> None:
    with pytest.raises(ValueError, match="base_path"):
        LambdaServer(base_path=base_path)


# -- google.api.HttpBody --


@pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=FRONT_ENDS.keys())
@pytest.mark.parametrize(
    ("content_type", "body"),
    [("text/csv", b"a,b"), ("application/json", b"{"), ("image/png", bytes(range(256))), ("text/plain", "é".encode())],
)
def test_a_body_of_any_type_comes_and_goes_as_it_is(
    server: LambdaServer, front_end: Any, content_type: str, body: bytes
) -> None:
    """The whole request and the whole reply."""
    http = HttpCaller(server.handler, front_end)
    answer = http.send("POST", "/v1/raw", body, headers={"content-type": content_type})

    assert (200, content_type, body) == (
        answer.status,
        answer.headers["content-type"],
        answer.body,
    )
    assert ("i", "t") == (answer.headers["initial"], answer.headers["grpc-trailer-trailing"])


def test_text_is_no_base64_in_the_event(server: LambdaServer) -> None:
    """An API without binary media types would hand out base64 as it is."""
    event = rest_api(Request("POST", "/v1/raw", b"a,b", {"content-type": "text/csv"}))
    reply: Any = server.handler(event, None)

    assert (False, "a,b") == (reply["isBase64Encoded"], reply["body"])


def test_a_body_without_a_type_or_bytes(http: HttpCaller) -> None:
    answer = http.send("POST", "/v1/raw")

    assert (200, b"", "application/octet-stream") == (
        answer.status,
        answer.body,
        answer.headers["content-type"],
    )


def test_one_field_may_be_a_body_of_any_type(http: HttpCaller) -> None:
    """body: "cover", response_body: "cover"; compressed ones are inflated."""
    headers = {"content-type": "image/png"}
    put = http.send("PUT", "/v1/covers/x", b"\x89", headers=headers)
    raw = http.send("PUT", "/v1/covers/x:raw", b"\x89", headers=headers)
    packed = http.send(
        "PUT",
        "/v1/covers/x:raw",
        gzip.compress(b"a"),
        headers=headers | {"content-encoding": "gzip"},
    )

    assert {
        "name": "x",
        "cover": {"contentType": "image/png", "data": "iQ==", "extensions": []},
    } == put.json
    assert ("image/png", b"\x89") == (raw.headers["content-type"], raw.body)
    assert b"a" == packed.body


def test_a_content_type_that_is_no_header_value_is_not_sent() -> None:
    """A servicer's line break must not end the header."""
    server = LambdaServer()
    library.add(server, Raw=lambda request, _: request.__class__(content_type="a/b\r\nx: y", data=b"1"))
    answer = HttpCaller(server.handler).send("POST", "/v1/raw", b"1")
    server.close()

    assert "application/octet-stream" == answer.headers["content-type"]


@pytest.mark.parametrize("streams", [False, True], ids=["buffered", "streamed"])
def test_a_stream_of_bodies_is_one_body(server: LambdaServer, streams: bool) -> None:
    """Its type is the first one's, although the metadata left before it."""
    http = HttpCaller(server.handler, context=LambdaContextDouble(can_stream_replies=streams))
    answer = http.send("GET", "/v1/shelves/1:read")

    assert (200, "text/plain", "i", b"The end\n") == (
        answer.status,
        answer.headers["content-type"],
        answer.headers["initial"],
        answer.body,
    )


@pytest.mark.parametrize("streams", [False, True], ids=["buffered", "streamed"])
def test_a_stream_of_bodies_that_fails_at_once_is_an_error(server: LambdaServer, streams: bool) -> None:
    http = HttpCaller(server.handler, context=LambdaContextDouble(can_stream_replies=streams))
    answer = http.send("GET", "/v1/shelves/1:read?tags=fail+at+once")

    assert (409, {"code": 10, "message": "as asked", "details": []}) == (answer.status, answer.json)


def test_a_stream_of_bodies_that_fails_later_never_looks_whole(server: LambdaServer) -> None:
    """Bytes have no place for an error: what is not sent yet becomes one, what is sent is cut off."""
    path = "/v1/shelves/1:read?tags=fail"

    assert 409 == HttpCaller(server.handler).send("GET", path).status
    with pytest.raises(CutOff, match="as asked"):
        HttpCaller(server.handler, context=LambdaContextDouble(can_stream_replies=True)).send("GET", path)
