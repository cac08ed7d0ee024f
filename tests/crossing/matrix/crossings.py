"""The matrix as data: what crosses (payload, event, carrier, function), what is asked of each crossing, and what comes
of it.

Every scenario is played on every crossing. Its outcome is that of a gRPC server; RULES say where it is another one, and
why. What the configuration refuses stands in REFUSED.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.message import Message

from bridge.config import formats
from bridge.config.formats import EVENT_NAMES, EVENTS, can_carry
from bridge.config.services import NEEDS
from bridge.config.target import GrpcTargetSpec, HttpTargetSpec, LocalTarget
from bridge.rpc.address import TcpAddress
from bridge.rpc.url import Url
from lambda_fn.examples import echo_pb2 as pb

MAX_MESSAGE = 64 << 10
"""`max_request` and `max_response` of the matrix."""
MAX_BUFFERED = 150 << 10
LIMITED = f"a response message of {{}} bytes is above max_response ({MAX_MESSAGE} bytes)"

Field = tuple[str, str | bytes]


@dataclass(frozen=True)
class Crossing:
    name: str
    payload: str
    event: str
    """`-`: an HTTP or native target."""
    carrier: str
    """invoke | response_stream | http | native"""
    function: str
    """Who answers: a key of FUNCTIONS."""

    @property
    def service(self) -> str:
        return f"matrix.{self.name}"

    @property
    def streams(self) -> bool:
        """Whether messages come as the function gives them."""
        if self.carrier == "native":
            return True
        by_function = self.function in STREAMING_FUNCTIONS
        return by_function and self.carrier != "invoke" and self.event != "alb"


@dataclass(frozen=True)
class Outcome:
    """What a client has of a call, as a whole. None: whatever it is."""

    code: str = "OK"
    message: str | None = ""
    messages: tuple[tuple[str, int], ...] = ()
    """Text and index of each."""
    details: tuple[str, ...] = ()
    initial: tuple[Field, ...] = ()
    """Metadata whose name begins with `echo-`, as all below."""
    trailing: tuple[Field, ...] = ()
    seen: tuple[Field, ...] = ()
    """What the function saw of the client's."""


@dataclass(frozen=True)
class Scenario:
    name: str
    kind: str
    """unary | server stream | client stream | bidi"""
    method: str
    requests: tuple[Message, ...]
    outcome: Outcome
    metadata: tuple[Field, ...] = ()
    timeout: float = 20.0
    is_compressed: bool = False
    waits: bool = False
    """Each message is sent when the one before is answered."""
    cancelled: bool = False
    """By the client: when the first message has come if messages come one by one, else once the call is under way."""

    @property
    def id(self) -> str:
        return f"{self.kind.replace(' ', '-')}-{self.name.replace(' ', '-')}"


@dataclass(frozen=True)
class Rule:
    """Where an outcome is another one."""

    where: Mapping[str, str | bool | tuple[str, ...]]
    """By attributes of the crossing."""
    scenarios: tuple[str, ...]
    change: Mapping[str, Any]
    """Of the outcome; {service} and {function} in a message are the crossing's."""
    why: str
    """A note of docs/crossings.md, without its last full stop."""

    def holds(self, crossing: Crossing, scenario: Scenario) -> bool:
        return scenario.id in self.scenarios and all(
            getattr(crossing, name) in (allowed if isinstance(allowed, tuple) else (allowed,))
            for name, allowed in self.where.items()
        )


# -- what crosses ------------------------------------------------------------------------------------------------------

SHAPES = tuple(EVENTS)
PAYLOADS = tuple(formats.PAYLOADS)
UNARY = ("protobuf", "json")

FUNCTIONS: Mapping[str, str] = {
    "servicer": "LambdaServer",
    "whole": "LambdaServer, stream_replies=False",
    "streamed": "LambdaServer, stream_replies=True",
    "plain": "Python without a gRPC library",
    "joined": "Python without a gRPC library or multiValueHeaders",
    "node": "Node, plain",
    "rust": "tonic on lambda-grpc-web",
    "rust-envoy": "tonic on lambda-grpc-web, its Envoy transport",
    "go-url": "connect-go on aws-lambda-go's lambdaurl",
    "go-http-v2": "connect-go on aws-lambda-go-api-proxy",
    "go-http-v1": "connect-go on aws-lambda-go-api-proxy",
    "go-alb": "connect-go on aws-lambda-go-api-proxy",
    "envoy": "Envoy's grpc_web filter before grpcio",
    "connect": "connect-go's server",
    "grpcio": "grpcio's server",
}
"""Who answers."""

STREAMING_FUNCTIONS = ("servicer", "streamed", "rust", "go-url", "envoy", "connect")
URL_FUNCTIONS = ("whole", "streamed", "joined", "rust", "go-url")
"""Those with a function URL, which `http` calls."""
GO_PROXY = ("go-http-v2", "go-http-v1", "go-alb")


def _camel(*parts: str) -> str:
    return "".join(part.title().replace("-", "").replace("_", "") for part in parts)


def _over_invoke() -> Iterator[Crossing]:
    for carrier in ("invoke", "response_stream"):
        for payload in PAYLOADS:
            for event in (each for each in EVENT_NAMES if can_carry(each, payload)):
                by_hand = payload != "grpc-web" or event == "envoy"
                name = _camel(payload, event, carrier)
                yield Crossing(name, payload, event, carrier, "plain" if by_hand else "servicer")


CROSSINGS: tuple[Crossing, ...] = (
    *_over_invoke(),
    Crossing("GrpcWebUrl", "grpc-web", "-", "http", "whole"),
    Crossing("GrpcWebStreamedUrl", "grpc-web", "-", "http", "streamed"),
    *(Crossing(_camel(payload, "url"), payload, "-", "http", "joined") for payload in PAYLOADS[1:]),
    Crossing("RustInvoke", "grpc-web", "http-v2", "invoke", "rust"),
    Crossing("RustStream", "grpc-web", "http-v2", "response_stream", "rust"),
    Crossing("RustUrl", "grpc-web", "-", "http", "rust"),
    Crossing("RustEnvoy", "grpc-web", "envoy", "invoke", "rust-envoy"),
    Crossing("GoInvoke", "grpc-web", "http-v2", "invoke", "go-url"),
    Crossing("GoStream", "grpc-web", "http-v2", "response_stream", "go-url"),
    Crossing("GoUrl", "grpc-web", "-", "http", "go-url"),
    *(Crossing(_camel("go", event), "grpc-web", event, "invoke", f"go-{event}") for event in SHAPES[:3]),
    Crossing("NodeRaw", "json", "raw", "invoke", "node"),
    Crossing("EnvoyWeb", "grpc-web", "-", "http", "envoy"),
    Crossing("ConnectWeb", "grpc-web", "-", "http", "connect"),
    Crossing("Grpcio", "grpc", "-", "native", "grpcio"),
    Crossing("ConnectGrpc", "grpc", "-", "native", "connect"),
)

_CHOICES = {"payload": PAYLOADS, "event": EVENT_NAMES, "invoke_mode": ("buffered", "response_stream")}
_TARGETS = (LocalTarget("f"), HttpTargetSpec(Url.parse("http://h")), GrpcTargetSpec(TcpAddress("h", 1)))


def _refused() -> Iterator[tuple[Mapping[str, str], str]]:
    for payload in PAYLOADS:
        for event in EVENT_NAMES:
            if not can_carry(event, payload):
                yield (
                    {"target": "local:f", "payload": payload, "event": event},
                    f"event: {event} cannot carry payload: {payload}",
                )
    for target in _TARGETS:
        for payload, found in formats.PAYLOADS.items():
            if found.needs_descriptors and NEEDS["payload"] in target.can:
                yield {"target": str(target), "payload": payload}, f"payload: {payload} needs descriptors"
    for target in _TARGETS:
        for key, values in _CHOICES.items():
            if NEEDS[key] not in target.can:
                for value in values:
                    yield {"target": str(target), key: value}, f"{key}: has no effect on {target.label}"


REFUSED = tuple(_refused())
"""Entries that `check` refuses, and what it says."""


# -- what is asked -----------------------------------------------------------------------------------------------------


def _echo(text: str, **asked: Any) -> pb.EchoRequest:
    return pb.EchoRequest(text=text, **asked)


UP: tuple[Field, ...] = (("echo-initial-a", "1"), ("echo-initial-a", "2, 3"))
UP_BINARY: tuple[Field, ...] = (("echo-initial-b-bin", b"\0\xff"), ("echo-initial-b-bin", b"\1"))
LAST: tuple[Field, ...] = (("echo-trailing-c", "4"), ("echo-trailing-d-bin", b"\0,\xfe"))
FAIL = pb.FailRequest(code=9, message="näh: 100%")
FAILED = Outcome("FAILED_PRECONDITION", "näh: 100%")
DETAILED = pb.FailRequest(code=5, message="gone", details=["one", "two"])
LARGE = "x" * (MAX_MESSAGE + 1)
TWO = (_echo("a"), _echo("b"))
THREE = (("s", 0), ("s", 1), ("s", 2))

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "cancel", "unary", "SleepAsync", (pb.SleepRequest(seconds=1),), Outcome("CANCELLED", None), cancelled=True
    ),
    Scenario(
        "cancel",
        "server stream",
        "ServerStream",
        (_echo("s", count=2, delay=0.4),),
        Outcome("CANCELLED", None, THREE[:1]),
        cancelled=True,
    ),
    Scenario("ok", "unary", "Unary", (_echo("hé"),), Outcome(messages=(("hé", 0),))),
    Scenario("metadata", "unary", "Unary", (_echo("m"),), Outcome(messages=(("m", 0),), initial=UP, seen=UP), UP),
    Scenario(
        "binary metadata",
        "unary",
        "Unary",
        (_echo("m"),),
        Outcome(messages=(("m", 0),), initial=UP_BINARY, seen=UP_BINARY),
        UP_BINARY,
    ),
    Scenario(
        "trailing metadata",
        "unary",
        "Unary",
        (_echo("m"),),
        Outcome(messages=(("m", 0),), trailing=LAST, seen=LAST),
        LAST,
    ),
    Scenario("error", "unary", "Fail", (FAIL,), FAILED),
    Scenario("error details", "unary", "Fail", (DETAILED,), Outcome("NOT_FOUND", "gone", details=("one", "two"))),
    Scenario("error with metadata", "unary", "Fail", (FAIL,), replace(FAILED, trailing=LAST), LAST),
    Scenario(
        "raised",
        "unary",
        "Raise",
        (pb.RaiseRequest(message="boom"),),
        Outcome("UNKNOWN", "Exception calling application: boom"),
    ),
    Scenario(
        "deadline", "unary", "Sleep", (pb.SleepRequest(seconds=0.5),), Outcome("DEADLINE_EXCEEDED", None), timeout=0.2
    ),
    Scenario(
        "request too large",
        "unary",
        "Unary",
        (_echo(LARGE),),
        Outcome(
            "RESOURCE_EXHAUSTED",
            f"a request message of {len(LARGE) + 4} bytes is above max_request ({MAX_MESSAGE} bytes)",
        ),
    ),
    Scenario(
        "reply too large",
        "unary",
        "Big",
        (pb.BigRequest(size=MAX_MESSAGE),),
        Outcome("RESOURCE_EXHAUSTED", LIMITED.format(MAX_MESSAGE + 4)),
    ),
    Scenario(
        "compressed", "unary", "Unary", (_echo("z" * 5000),), Outcome(messages=(("z" * 5000, 0),)), is_compressed=True
    ),
    Scenario("ok", "server stream", "ServerStream", (_echo("s", count=3),), Outcome(messages=THREE)),
    Scenario(
        "metadata",
        "server stream",
        "ServerStream",
        (_echo("s", count=3),),
        Outcome(messages=THREE, initial=UP_BINARY, trailing=LAST, seen=UP_BINARY + LAST),
        UP_BINARY + LAST,
    ),
    Scenario("error at once", "server stream", "Fail", (FAIL,), FAILED),
    Scenario(
        "error after two",
        "server stream",
        "ServerStream",
        (_echo("s", count=5, fail_after=2),),
        Outcome("ABORTED", "failed after 2, as asked", THREE[:2]),
    ),
    Scenario("ok", "client stream", "ClientStream", TWO, Outcome(messages=(("a b", 2),))),
    Scenario("error", "client stream", "Fail", (FAIL,), FAILED),
    Scenario(
        "too much",
        "client stream",
        "ClientStream",
        (_echo(LARGE[:-100]),) * 3,
        Outcome(
            "RESOURCE_EXHAUSTED",
            f"the request is larger than max_buffered ({MAX_BUFFERED} bytes), the most that is gathered for "
            "a target that takes its input whole",
        ),
    ),
    Scenario("ok", "bidi", "BidiStream", TWO, Outcome(messages=(("a", 0), ("b", 1)))),
    Scenario("no messages", "bidi", "BidiStream", (), Outcome()),
    Scenario("full duplex", "bidi", "BidiStream", TWO, Outcome(messages=(("a", 0), ("b", 1))), waits=True),
)


# -- what comes of it --------------------------------------------------------------------------------------------------

JOINED: tuple[Field, ...] = (("echo-initial-a", "1,2, 3"),)
ONE = THREE[:1]
UNSENT: Mapping[str, Any] = {"code": "UNIMPLEMENTED", "messages": ()}
FAILED_IN_FUNCTION = "{function} failed: "
BAD_GATEWAY: Mapping[str, Any] = {
    "code": "UNAVAILABLE",
    "message": "the function answered HTTP 502: Internal Server Error",
}
FROM_NATIVE = "bytes from grpc://ADDRESS is above max_response"

RAW = {"event": "raw"}
NO_TRAILERS = {"event": (*SHAPES, "-"), "carrier": ("invoke", "response_stream", "http")}

RULES: tuple[Rule, ...] = (
    # metadata
    Rule(
        {"event": ("envoy", "raw")},
        ("unary-metadata",),
        {"initial": JOINED, "seen": JOINED},
        "AWS and Envoy join the values of a name into one",
    ),
    Rule(
        {"carrier": "http", "function": URL_FUNCTIONS},
        ("unary-metadata",),
        {"initial": JOINED, "seen": JOINED},
        "A function URL joins the values of a name into one",
    ),
    Rule(
        {"function": ("rust", "go-url")},
        ("unary-metadata",),
        {"initial": JOINED, "seen": JOINED},
        "The function's library reads only `headers`, where AWS has joined the values of a name",
    ),
    Rule(
        {"function": "go-http-v2"},
        ("unary-metadata",),
        {
            "initial": (("echo-initial-a", "1,2,3"),),
            "seen": (("echo-initial-a", "1"), ("echo-initial-a", "2"), ("echo-initial-a", "3")),
        },
        "aws-lambda-go-api-proxy reads only `headers` and splits every value at its commas",
    ),
    Rule(
        {"function": ("rust", "rust-envoy")},
        ("unary-binary-metadata",),
        {"seen": ()},
        "The function cannot read repeated -bin metadata. AWS joins the values, and tonic takes them for one",
    ),
    Rule(
        {"function": ("rust", "rust-envoy")},
        ("server-stream-metadata",),
        {"seen": LAST},
        "The function cannot read repeated -bin metadata. AWS joins the values, and tonic takes them for one",
    ),
    Rule(
        {"function": ("rust", "rust-envoy")},
        ("unary-trailing-metadata", "server-stream-metadata"),
        {"trailing": ()},
        "There is no trailing metadata without an error, because tonic offers none",
    ),
    Rule(
        {**NO_TRAILERS, "payload": PAYLOADS[1:]},
        ("unary-trailing-metadata",),
        {"initial": LAST, "trailing": ()},
        "Trailing metadata exists only with an error. Without an error it is among the headers",
    ),
    Rule(
        {**NO_TRAILERS, "payload": PAYLOADS[1:]},
        ("server-stream-metadata",),
        {"initial": UP_BINARY + LAST, "trailing": ()},
        "Trailing metadata exists only with an error. Without an error it is among the headers",
    ),
    Rule(
        RAW,
        (
            "unary-metadata",
            "unary-binary-metadata",
            "unary-trailing-metadata",
            "unary-error-with-metadata",
            "server-stream-metadata",
        ),
        {"initial": (), "trailing": ()},
        "The function returns no metadata, because its reply is only the JSON",
    ),
    Rule(
        RAW,
        ("unary-error-details",),
        {"details": ()},
        "There are no error details, because a raised error has only a type and a text",
    ),
    # one message each way
    Rule(
        {"payload": UNARY},
        ("server-stream-ok", "server-stream-metadata"),
        {"messages": ONE},
        "The payload is unary, so a server stream has one message",
    ),
    Rule(
        {"payload": UNARY},
        ("server-stream-error-after-two",),
        {"messages": ()},
        "The payload is unary, so a reply is a message or an error",
    ),
    Rule(
        {"payload": "protobuf"},
        ("client-stream-ok", "bidi-ok"),
        {
            **UNSENT,
            "message": "payload: protobuf is unary, and this call has several messages: streams need payload: "
            "grpc-web or grpc",
        },
        "The payload is unary, so a call with several messages is refused",
    ),
    Rule(
        {"payload": "json"},
        ("client-stream-ok", "bidi-ok"),
        {
            **UNSENT,
            "message": "payload: json is unary, and this call has several messages: streams need payload: "
            "grpc-web or grpc",
        },
        "The payload is unary, so a call with several messages is refused",
    ),
    Rule(
        {"payload": "protobuf"},
        ("bidi-no-messages",),
        {**UNSENT, "message": "payload: protobuf is unary, and this call has no message"},
        "The payload is unary, so a call without a message is refused",
    ),
    Rule(
        {"payload": "json"},
        ("bidi-no-messages",),
        {**UNSENT, "message": "payload: json is unary, and this call has no message"},
        "The payload is unary, so a call without a message is refused",
    ),
    # streams
    Rule(
        {"streams": False},
        ("server-stream-cancel",),
        {"messages": ()},
        "The reply is buffered, so nothing arrives before the last message",
    ),
    Rule(
        {"carrier": ("invoke", "response_stream", "http")},
        ("bidi-full-duplex",),
        {
            **UNSENT,
            "message": "full duplex needs a grpc:// target or `duplex`: {service}/BidiStream takes its input whole, "
            "and the client sent a message but did not end its side within 0.3 s (half_close)",
        },
        "The target takes its input whole",
    ),
    Rule(
        {"carrier": ("invoke", "response_stream", "http"), "function": ("go-url", *GO_PROXY, "connect")},
        ("bidi-ok", "bidi-no-messages"),
        {"code": "UNKNOWN", "message": "the function answered HTTP 505", "messages": ()},
        "connect-go refuses bidirectional calls over HTTP/1.1",
    ),
    Rule(
        {"function": "grpcio"},
        ("client-stream-too-much",),
        {"message": f"a response message of 196319 {FROM_NATIVE} ({MAX_MESSAGE} bytes)"},
        "The bridge gathers nothing, so only the reply is too large",
    ),
    Rule(
        {"function": "connect", "carrier": "native"},
        ("client-stream-too-much",),
        {
            "message": "a response message of more bytes, once inflated, from grpc://ADDRESS is above max_response "
            f"({MAX_MESSAGE} bytes)"
        },
        "The bridge gathers nothing, so only the reply is too large",
    ),
    Rule(
        {"carrier": "native"},
        ("unary-reply-too-large",),
        {"message": f"a response message of {MAX_MESSAGE + 4} {FROM_NATIVE} ({MAX_MESSAGE} bytes)"},
        "The message names the server",
    ),
    Rule(
        {"function": ("rust", "rust-envoy")},
        ("unary-reply-too-large",),
        {"message": LIMITED.format(MAX_MESSAGE + 37)},
        "The function compresses its replies, and a message counts as it is sent",
    ),
    Rule(
        {"function": ("go-url", "go-http-v1", "go-alb", "connect")},
        ("unary-reply-too-large",),
        {"message": LIMITED.format(MAX_MESSAGE + 48)},
        "The function compresses its replies, and a message counts as it is sent",
    ),
    Rule(
        {"function": "connect", "carrier": "native"},
        ("unary-reply-too-large",),
        {"message": f"a response message of {MAX_MESSAGE + 48} {FROM_NATIVE} ({MAX_MESSAGE} bytes)"},
        "The message names the server",
    ),
    # what an exception becomes
    Rule(
        {"function": "plain"},
        ("unary-raised",),
        {"code": "INTERNAL", "message": FAILED_IN_FUNCTION + "RuntimeError: boom"},
        "The error is a failure of the function",
    ),
    Rule(
        {"function": "node"},
        ("unary-raised",),
        {"code": "INTERNAL", "message": FAILED_IN_FUNCTION + "Error: boom"},
        "The error is a failure of the function",
    ),
    Rule({"function": "joined"}, ("unary-raised",), BAD_GATEWAY, "A function URL hides the error behind a 502"),
    Rule(
        {"function": ("rust", "rust-envoy")},
        ("unary-raised",),
        {"code": "INTERNAL", "message": "boom"},
        "lambda-grpc-web catches a panic and makes it INTERNAL",
    ),
    Rule(
        {"function": ("go-url", *GO_PROXY, "connect")},
        ("unary-raised",),
        {"code": "INTERNAL", "message": "boom"},
        "connect.WithRecover makes a panic INTERNAL",
    ),
)


def outcome_of(crossing: Crossing, scenario: Scenario) -> Outcome:
    outcome = scenario.outcome
    for rule in RULES:
        if rule.holds(crossing, scenario):
            outcome = replace(outcome, **rule.change)
    if outcome.message is None:
        return outcome
    told = outcome.message.replace("{service}", crossing.service)
    return replace(outcome, message=told.replace("{function}", crossing.function))
