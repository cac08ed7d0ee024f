"""The kinds of target: how the text of each is read and printed, what it can do, and how it is named.

`KINDS` lists them. What the rest of the bridge asks about a target, it asks here: which keys work on it (`Can`),
whether messages stream, and how traces describe it. `bridge/targets/builder.py` has the handler of each kind.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Self, TypeAlias

from bridge.aws.arn import FunctionName
from bridge.config.element import Element
from bridge.config.problems import did_you_mean
from bridge.config.reading import Trait
from bridge.config.values import host_and_port, read_url, socket_path
from bridge.rpc.address import Address, UnixAddress
from bridge.rpc.url import Url

LONGEST_RUN = 1800.0
"""Seconds: what AWS allows a synchronous invocation (AWS Lambda quotas, "Function timeout")."""

MAX_CALL_SECONDS = LONGEST_RUN + 10.0
"""Seconds after which a Lambda call without deadline and timeout ends."""

FUNCTION_NAME = r"[A-Za-z0-9_-]{1,64}"
"""Of a local function: what AWS allows too."""

SpanAttributes: TypeAlias = Mapping[str, str | int]


class Can(Trait, Enum):
    """What a target can do. As a trait of a key: the key works only on targets that can do this."""

    TAKE_BODIES = "gets each call as one body, in a payload format"
    TAKE_EVENTS = "gets each call as an event, by Invoke"
    BE_AWS = "is called with AWS credentials"
    BE_VERIFIED = "has a certificate"
    TAKE_HEADERS = "gets configured headers"
    CHECK_SIGNATURES = "may want its requests signed"
    BE_REACHED_BY_NAME = "has a host name"
    BE_DURABLE = "keeps executions by their names"
    SERVE_TENANTS = "has instances of its own for each tenant"


class TargetKind(ABC):
    """What every kind of target has. The text of a target is `str` of it."""

    __slots__ = ()

    schemes: ClassVar[tuple[str, ...]]
    """What its texts begin with."""
    expected: ClassVar[str]
    """Its texts, as a message lists them."""
    streams: ClassVar[bool] = False
    """Whether messages pass one by one in both directions. Otherwise the target needs the request whole."""
    max_call_seconds: ClassVar[float | None] = None
    """When a call without deadline and timeout ends."""
    tells_limits: ClassVar[bool] = False
    """Whether its throttles tell how many calls it takes: the call that was throttled has provably not run."""

    @classmethod
    @abstractmethod
    def read(cls, element: Element, scheme: str, text: str) -> Self:
        """Read a target from its text, which begins with `scheme` and is written at `element`. Raises Refused."""

    @property
    @abstractmethod
    def label(self) -> str:
        """As messages name such a target: `an http:// target`."""

    @property
    @abstractmethod
    def can(self) -> frozenset[Can]:
        """What this target can do."""

    @property
    def region(self) -> str | None:
        """The AWS region that the target itself names."""
        return None

    @property
    def local_function(self) -> str | None:
        """The name of the function that the local Lambda runs for it."""
        return None

    @property
    def is_qualified(self) -> bool:
        """Whether invocations name a version or an alias."""
        return False

    @property
    def host(self) -> str | None:
        """The host whose name may tell what requests are signed for."""
        return None

    @property
    @abstractmethod
    def span(self) -> tuple[str, SpanAttributes]:
        """The name and the attributes of an attempt's span, after OpenTelemetry's conventions."""


@dataclass(frozen=True, slots=True)
class LambdaTargetSpec(TargetKind):
    """A function on AWS: `arn:…` or `function:NAME[:QUALIFIER]`."""

    function: FunctionName

    schemes = ("arn:", "function:")
    expected = "arn:…, function:NAME"
    label = "a Lambda target"
    can = frozenset(
        {
            Can.TAKE_BODIES,
            Can.TAKE_EVENTS,
            Can.BE_AWS,
            Can.BE_REACHED_BY_NAME,
            Can.BE_DURABLE,
            Can.SERVE_TENANTS,
        }
    )
    max_call_seconds = MAX_CALL_SECONDS
    tells_limits = True

    @classmethod
    def read(cls, element: Element, scheme: str, text: str) -> Self:
        is_arn = scheme == "arn:"
        parse = FunctionName.from_arn if is_arn else FunctionName.from_name
        try:
            return cls(parse(text if is_arn else text.removeprefix(scheme)))
        except ValueError as error:
            raise element.refuse(f"{error}, found {element.found}") from error

    @property
    def region(self) -> str | None:
        return self.function.region

    @property
    def is_qualified(self) -> bool:
        return self.function.qualifier is not None

    @property
    def span(self) -> tuple[str, SpanAttributes]:
        attributes = {"faas.invoked_name": self.function.name, "faas.invoked_provider": "aws"}
        if self.function.region is not None:
            attributes["faas.invoked_region"] = self.function.region
        return str(self.function), attributes

    def __str__(self) -> str:
        return self.function.arn or f"function:{self.function}"


@dataclass(frozen=True, slots=True)
class HttpTargetSpec(TargetKind):
    """A gRPC-Web or HTTP server: function URL, API Gateway, anything. Calls go to `url` + `/Service/Method`."""

    url: Url

    schemes = ("http://", "https://")
    expected = "http://, https://"

    @classmethod
    def read(cls, element: Element, scheme: str, text: str) -> Self:  # noqa: ARG003 - the URL has it
        return cls(read_url(element, text))

    @property
    def label(self) -> str:
        return f"an {self.url.origin.scheme}:// target"

    @property
    def can(self) -> frozenset[Can]:
        can = frozenset({Can.TAKE_BODIES, Can.TAKE_HEADERS, Can.CHECK_SIGNATURES, Can.BE_REACHED_BY_NAME})
        return can | {Can.BE_VERIFIED} if self.url.origin.is_secure else can

    @property
    def host(self) -> str:
        return self.url.origin.host

    @property
    def span(self) -> tuple[str, SpanAttributes]:
        origin = self.url.origin
        return origin.authority, {"server.address": origin.host, "server.port": origin.port}

    def __str__(self) -> str:
        return str(self.url)


@dataclass(frozen=True, slots=True)
class GrpcTargetSpec(TargetKind):
    """A native gRPC server."""

    address: Address
    tls: bool = False

    schemes = ("grpc://", "grpcs://", "unix:", "unix-abstract:")
    expected = "grpc://, grpcs://, unix:PATH"
    streams = True

    @classmethod
    def read(cls, element: Element, scheme: str, text: str) -> Self:
        if scheme.startswith("unix"):
            return cls(socket_path(element, text))
        return cls(host_and_port(element, text.removeprefix(scheme)), tls=scheme == "grpcs://")

    @property
    def label(self) -> str:
        return "a unix: target" if isinstance(self.address, UnixAddress) else f"a {self._scheme}:// target"

    @property
    def can(self) -> frozenset[Can]:
        if isinstance(self.address, UnixAddress):
            return frozenset({Can.TAKE_HEADERS})
        can = frozenset({Can.TAKE_HEADERS, Can.BE_REACHED_BY_NAME})
        return can | {Can.BE_VERIFIED} if self.tls else can

    @property
    def span(self) -> tuple[str, SpanAttributes]:
        if isinstance(self.address, UnixAddress):
            return str(self.address), {"server.address": str(self.address), "network.transport": "unix"}
        return str(self.address), {"server.address": self.address.host, "server.port": self.address.port}

    @property
    def _scheme(self) -> str:
        return "grpcs" if self.tls else "grpc"

    def __str__(self) -> str:
        return str(self.address) if isinstance(self.address, UnixAddress) else f"{self._scheme}://{self.address}"


@dataclass(frozen=True, slots=True)
class LocalTarget(TargetKind):
    """A function of the local Lambda."""

    name: str

    schemes = ("local:",)
    expected = "local:NAME"
    label = "a local: target"
    can = frozenset({Can.TAKE_BODIES, Can.TAKE_EVENTS, Can.BE_DURABLE, Can.SERVE_TENANTS})
    max_call_seconds = MAX_CALL_SECONDS
    tells_limits = True

    @classmethod
    def read(cls, element: Element, scheme: str, text: str) -> Self:
        name = text.removeprefix(scheme)
        if not re.fullmatch(FUNCTION_NAME, name):
            raise element.refuse(f"expected local:NAME, found {element.found}")
        return cls(name)

    @property
    def local_function(self) -> str:
        return self.name

    @property
    def is_qualified(self) -> bool:
        return True  # by $LATEST, where that matters

    @property
    def span(self) -> tuple[str, SpanAttributes]:
        return self.name, {"faas.invoked_name": self.name}

    def __str__(self) -> str:
        return f"local:{self.name}"


@dataclass(frozen=True, slots=True)
class LocalWebTarget(TargetKind):
    """A Web Function of the local Lambda: an HTTP server. Its text is that of other local functions, and `functions`
    tells which it is.
    """

    name: str

    schemes = LocalTarget.schemes
    expected = LocalTarget.expected
    label = "a local: target that is a Web Function"
    can = frozenset({Can.TAKE_BODIES, Can.TAKE_HEADERS})

    @classmethod
    def read(cls, element: Element, scheme: str, text: str) -> Self:
        return cls(LocalTarget.read(element, scheme, text).name)

    @property
    def local_function(self) -> str:
        return self.name

    @property
    def span(self) -> tuple[str, SpanAttributes]:
        return self.name, {"faas.invoked_name": self.name}

    def __str__(self) -> str:
        return f"local:{self.name}"


KINDS: tuple[type[TargetKind], ...] = (LambdaTargetSpec, HttpTargetSpec, GrpcTargetSpec, LocalTarget)
"""In the order in which messages list them."""

_KIND_OF_SCHEME = {scheme: kind for kind in KINDS for scheme in kind.schemes}

EXPECTED = "a target: " + " or ".join(", ".join(kind.expected for kind in KINDS).rsplit(", ", 1))


def target(element: Element) -> TargetKind:
    return parse_target(element, element.text(EXPECTED))


def parse_target(element: Element, text: str) -> TargetKind:
    """`element` says where the text is written. Raises Refused."""
    for scheme, kind in _KIND_OF_SCHEME.items():
        if text.startswith(scheme):
            return kind.read(element, scheme, text)
    raise element.refuse(f"expected {EXPECTED}; found {element.found}{_guess(text)}")


def _guess(text: str) -> str:
    scheme, colon, _ = text.partition(":")
    if not colon:
        return "; is it the name of a function? Then function:NAME"
    return did_you_mean(scheme, [known.rstrip(":/") for known in _KIND_OF_SCHEME])
