"""`services` and `defaults`: keys taken apart, inheritance resolved, and what cannot work refused.

Inheritance works on elements, before they are read: an entry's keys are laid over those of the entry its service would
match, and these over `defaults`. What lies on top is read once, and each problem is reported where its value is
written.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, assert_never

from bridge.aws.arn import REGION_PATTERN
from bridge.config.element import Element, shown
from bridge.config.problems import Refused, did_you_mean
from bridge.config.schema import (
    Defaults,
    DescriptorsPath,
    EventShape,
    GrpcTargetSpec,
    HttpTargetSpec,
    IamAuth,
    JsonOptions,
    LambdaTargetSpec,
    LocalTarget,
    Match,
    MatchKind,
    PayloadName,
    Service,
    Target,
    TargetShare,
    TargetTls,
    UnixAddress,
)
from bridge.config.target import parse_target, target
from bridge.config.values import (
    Keys,
    Read,
    boolean,
    choice,
    duration,
    file,
    file_or_folder,
    integer,
    note_unknown_key,
    optional,
    pattern,
    percentage,
    region,
    role,
    size,
    url,
    weight,
)
from bridge.rpc.hop import Leg, not_passed
from bridge.rpc.limits import Limits, RetryPolicy
from bridge.rpc.status import StatusCode
from bridge.rpc.url import is_host

Settings = dict[str, Element]
"""The keys of an entry; those of `retry` and `json`, which are inherited one by one, as `retry.attempts` and so on."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "retry": ("attempts", "backoff", "max_backoff", "budget"),
    "json": ("names", "defaults"),
}

LIMIT_KEYS = (
    "max_request",
    "max_buffered",
    "max_response",
    "max_trailers",
    "max_concurrency",
    "half_close",
)
LEG_KEYS = (
    "payload",
    "event",
    "invoke_mode",
    "descriptors",
    "json",
    "role_arn",
    "endpoint_url",
    "quirks",
    "tls",
    "headers",
    "auth",
)
DEFAULT_KEYS = ("timeout", *LIMIT_KEYS, "retry", "throttled_as", "compression", *LEG_KEYS)
SERVICE_KEYS = ("target", "split", *DEFAULT_KEYS)

INHERITED_BY_OWN_TARGET = frozenset({"timeout", *LIMIT_KEYS, "retry", "throttled_as", "descriptors"})
"""What a method entry with a target of its own takes from its service's entry; without one it takes everything."""

# -- which key means something on which target --

LAMBDA = frozenset({"lambda", "local"})
HTTP = frozenset({"http", "https"})
GRPC = frozenset({"grpc", "grpcs", "unix"})

WORKS_ON: Mapping[str, frozenset[str]] = {
    "payload": LAMBDA | HTTP,
    "event": LAMBDA,
    "invoke_mode": LAMBDA,
    "json": LAMBDA | HTTP,
    "role_arn": frozenset({"lambda"}),
    "endpoint_url": frozenset({"lambda"}),
    "quirks": frozenset({"lambda"}),
    "tls": frozenset({"https", "grpcs"}),
    "headers": HTTP | GRPC,
    "auth": HTTP,
    "half_close": LAMBDA | HTTP,
}
"""Keys that are not here work on every target."""

_NAMED: Mapping[str, str] = {
    "lambda": "a Lambda target",
    "local": "a local: target",
    "http": "an http:// target",
    "https": "an https:// target",
    "grpc": "a grpc:// target",
    "grpcs": "a grpcs:// target",
    "unix": "a unix: target",
}

_HTTP_EVENTS: frozenset[EventShape] = frozenset({"http-v2", "http-v1", "alb", "envoy"})

EVENTS_OF_PAYLOAD: Mapping[PayloadName, frozenset[EventShape]] = {
    "grpc-web": _HTTP_EVENTS,
    "grpc": _HTTP_EVENTS,
    "protobuf": _HTTP_EVENTS,
    "json": _HTTP_EVENTS | {"raw"},
}
"""What goes over Invoke in what."""

_IAM_HOSTS = (
    (re.compile(rf".+\.lambda-url\.({REGION_PATTERN})\.on\.aws"), "lambda"),
    (re.compile(rf".+\.execute-api\.({REGION_PATTERN})\.amazonaws\.com(?:\.cn)?"), "execute-api"),
)
"""Hosts whose name says what requests are signed for."""


# -- keys --------------------------------------------------------------------------------------------------------------

_PART = r"[A-Za-z0-9_$-]+"
_KEY = re.compile(rf"(?P<service>{_PART}(?:\.{_PART})*)(?:/(?P<method>{_PART}))?(?P<prefix>\.\*)?")


def parse_key(key: str) -> Match:
    """Return what a key of `services` matches. Raises ValueError."""
    if key == "*":
        return Match(MatchKind.ANY)
    parsed = _KEY.fullmatch(key)
    if parsed is not None and parsed["prefix"] is None:
        kind = MatchKind.SERVICE if parsed["method"] is None else MatchKind.METHOD
        return Match(kind, parsed["service"], parsed["method"])
    if parsed is not None and parsed["method"] is None:
        return Match(MatchKind.PREFIX, parsed["service"])
    if key.startswith("/"):
        raise ValueError("a key does not begin with a slash: pkg.Service or pkg.Service/Method")
    if key.endswith("/*"):
        raise ValueError("for all methods of a service, write the service alone: pkg.Service")
    if "*" in key:
        raise ValueError("* stands only last after a dot (pkg.*), or alone")
    raise ValueError("expected pkg.Service, pkg.Service/Method, pkg.* or *")


def matching_keys(service: str) -> Iterator[str]:
    """Yield the keys that would match all methods of a service, the most specific first."""
    yield service
    prefix = service
    while prefix := prefix.rpartition(".")[0]:
        yield f"{prefix}.*"
    yield "*"


# -- entries -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of `services` with what is written under it."""

    key: str
    match: Match
    element: Element
    settings: Settings

    @property
    def is_null(self) -> bool:
        """Without a target on purpose: UNIMPLEMENTED."""
        target_element = self.settings.get("target")
        return target_element is not None and target_element.is_null

    @property
    def has_target(self) -> bool:
        return "target" in self.settings or "split" in self.settings


class ServicesReader:
    """Reads `services` over `defaults`. All problems are noted in the document."""

    def __init__(self, defaults: Settings, local_functions: Collection[str] | None) -> None:
        self._defaults = defaults
        self._local_functions = local_functions
        """The names `local:` may use; None: another local Lambda knows them."""
        self._entries: dict[str, Entry] = {}
        self._broken: set[str] = set()
        """Keys of entries that cannot be read; what depends on them is not judged."""

    def read(self, elements: Mapping[str, Element]) -> dict[str, Service]:
        for key, element in elements.items():
            try:
                self._entries[key] = _read_entry(key, element)
            except Refused as refused:
                element.document.note(refused)
                self._broken.add(key)
        services = {}
        for entry in self._entries.values():
            try:
                services[entry.key] = self._resolve(entry)
            except Refused as refused:
                entry.element.document.note(refused)
                _read_all(entry.element, entry.settings)  # for what else is wrong with it
        return services

    def _resolve(self, entry: Entry) -> Service:
        """Return the entry with all it inherits. Raises Refused if it leads nowhere."""
        if "split" in entry.settings and "target" in entry.settings:
            raise entry.settings["split"].refuse('"target" and "split" exclude each other')
        if entry.is_null:
            _note_settings_of_null(entry)
            return _service(entry, (), Defaults())
        settings = self._defaults | self._inherited(entry) | entry.settings
        document = entry.element.document
        problems = len(document.problems)
        shared = read_defaults(entry.element, settings)
        legs = tuple(self._legs(entry, settings))
        if legs:
            _note_keys_without_effect(entry.settings, legs)
        if len(document.problems) == problems:
            _note_unused_json(entry.settings, legs)
        return _service(entry, legs, shared)

    def _inherited(self, entry: Entry) -> Settings:
        """Return what an entry takes from the one its service would match. Raises Refused if it needs a target and
        finds none.
        """
        if entry.match.kind is not MatchKind.METHOD:
            if not entry.has_target:
                raise entry.element.refuse('needs "target" or "split": only a method inherits one')
            return {}
        keys = matching_keys(entry.match.service)
        base_key = next((key for key in keys if key in self._entries or key in self._broken), None)
        if entry.has_target:
            base = self._entries.get(base_key) if base_key is not None else None
            inherited = base.settings if base is not None else {}
            return {name: element for name, element in inherited.items() if _top(name) in INHERITED_BY_OWN_TARGET}
        if base_key is None:
            raise entry.element.refuse('needs "target" or "split": no entry matches its service')
        if base_key in self._broken:
            raise entry.element.refuse(f'inherits from "{base_key}", which is not usable')
        base = self._entries[base_key]
        if base.is_null:
            raise entry.element.refuse(f'needs "target" or "split": "{base_key}" is null')
        if not base.has_target:
            raise entry.element.refuse(f'inherits from "{base_key}", which has no target')
        return base.settings

    # -- legs --

    def _legs(self, entry: Entry, settings: Settings) -> Iterator[TargetShare]:
        split = settings.get("split")
        if split is None:
            element = settings["target"]
            yield self._leg(target(element), element, settings, entry)
            return
        legs = split.keys()
        if not legs:
            raise split.refuse("needs at least one target with its weight")
        for text, element in legs.items():
            try:
                yield self._split_leg(text, element, settings, entry)
            except Refused as refused:
                element.document.note(refused)

    def _split_leg(self, text: str, element: Element, settings: Settings, entry: Entry) -> TargetShare:
        document = element.document
        literal = document.literal(document.file, document.folder)
        as_target = Element.of_text(text, element.place, literal)
        found = parse_target(as_target, text)
        own = _read_settings(element, ("weight", *LEG_KEYS), scalar="weight")
        weighed = Keys(element, "services", own).need("weight", weight, 1.0)
        problems = len(document.problems)
        leg = self._leg(found, as_target, settings | own, entry, weighed)
        _note_keys_without_effect(own, (leg,))
        if len(document.problems) == problems:
            _note_unused_json(own, (leg,))
        return leg

    def _leg(
        self,
        found: Target,
        element: Element,
        settings: Settings,
        entry: Entry,
        weighed: float = 1.0,
    ) -> TargetShare:
        """`element` is where the target is written."""
        names = self._local_functions
        if isinstance(found, LocalTarget) and names is not None and found.name not in names:
            nearest = did_you_mean(found.name, names)
            raise element.refuse(f"functions has no {shown(found.name)}{nearest}")
        document = entry.element.document
        problems = len(document.problems)
        working = {name: value for name, value in settings.items() if _works_on(_top(name), found)}
        leg = read_leg(element, working, found, weighed)
        if len(document.problems) == problems:
            for keys, message in _crossings(leg):
                own = (settings[key] for key in keys if key in entry.settings)
                document.note(next(own, entry.element).refuse(message))
        return leg


def _read_entry(key: str, element: Element) -> Entry:
    try:
        match = parse_key(key)
    except ValueError as error:
        raise element.refuse(str(error)) from error
    return Entry(key, match, element, _read_settings(element, SERVICE_KEYS, scalar="target"))


def _read_settings(element: Element, known: Collection[str], *, scalar: str) -> Settings:
    """Return the keys of a mapping. Text or null alone is the value of the key `scalar`. Raises Refused if it is
    neither.
    """
    if not element.is_mapping and not element.is_list:
        return {scalar: element}
    return _known_settings(element.keys(), known)


def _known_settings(elements: Mapping[str, Element], known: Collection[str]) -> Settings:
    """Unknown keys are noted and left out."""
    settings: Settings = {}
    for name, value in elements.items():
        if name not in known:
            note_unknown_key(value, name, known)
        elif name in GROUPS:
            settings |= _read_group(name, value)
        else:
            settings[name] = value
    return settings


def _read_group(group: str, element: Element) -> Settings:
    settings: Settings = {}
    try:
        elements = element.keys()
    except Refused as refused:
        element.document.note(refused)
        return settings
    for name, value in elements.items():
        if name in GROUPS[group]:
            settings[f"{group}.{name}"] = value
        else:
            note_unknown_key(value, name, GROUPS[group])
    return settings


def _top(name: str) -> str:
    return name.partition(".")[0]


def _service(entry: Entry, legs: tuple[TargetShare, ...], shared: Defaults) -> Service:
    return Service(
        key=entry.key,
        match=entry.match,
        legs=legs,
        timeout=shared.timeout,
        limits=shared.limits,
        max_concurrency=shared.max_concurrency,
        retry=shared.retry,
        compression=shared.compression,
    )


# -- what cannot work --------------------------------------------------------------------------------------------------


def _kind(found: Target) -> str:
    match found:
        case LambdaTargetSpec():
            return "lambda"
        case LocalTarget():
            return "local"
        case HttpTargetSpec(url=address):
            return address.origin.scheme
        case GrpcTargetSpec(address=UnixAddress()):
            return "unix"
        case GrpcTargetSpec(tls=tls):
            return "grpcs" if tls else "grpc"
    assert_never(found)


def _works_on(key: str, found: Target) -> bool:
    return key not in WORKS_ON or _kind(found) in WORKS_ON[key]


def _note_settings_of_null(entry: Entry) -> None:
    for name, element in entry.settings.items():
        if name != "target":
            element.document.note(element.refuse("has no effect without a target"))


def _note_keys_without_effect(own: Settings, legs: tuple[TargetShare, ...]) -> None:
    """`own`: what is written for these legs alone; what they inherit may be without effect, and so may null."""
    for name, element in own.items():
        if not element.is_null and not any(_works_on(_top(name), leg.target) for leg in legs):
            on = " or ".join(dict.fromkeys(_NAMED[_kind(leg.target)] for leg in legs))
            element.document.note(element.refuse(f"has no effect on {on}"))


def _note_unused_json(own: Settings, legs: tuple[TargetShare, ...]) -> None:
    if any(leg.payload == "json" for leg in legs):
        return
    for name, element in own.items():
        if _top(name) == "json":
            element.document.note(element.refuse("has no effect without payload: json"))


def _crossings(leg: TargetShare) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what the leg asks for and cannot be: the keys that together are at fault, and why."""
    if leg.event not in EVENTS_OF_PAYLOAD[leg.payload]:
        yield ("event", "payload"), f"event: {leg.event} cannot carry payload: {leg.payload}"
    if leg.payload == "json" and leg.descriptors is None:
        yield ("payload",), "payload: json needs descriptors"
    if leg.auth is not None:
        for name in leg.headers:
            if name == "authorization" or name.startswith("x-amz-"):
                yield ("headers", "auth"), f"auth: iam sets {name} itself"


# -- reading an entry's keys -------------------------------------------------------------------------------------------


def _read_all(element: Element, settings: Settings) -> None:
    """Read an entry that leads nowhere, for its problems' sake."""
    read_defaults(element, settings)
    read_leg(element, settings, LocalTarget(""))


def read_service_defaults(element: Element, elements: Mapping[str, Element]) -> tuple[Settings, Defaults]:
    """`defaults`: as entries inherit it, and as calls without an entry see it."""
    settings = _known_settings(elements, DEFAULT_KEYS)
    read_leg(element, settings, LocalTarget(""))
    return settings, read_defaults(element, settings)


_LARGEST_MESSAGE = (1 << 32) - 1
"""Bytes: the length in a message's prefix has 32 bits (gRPC PROTOCOL-HTTP2, "Message-Length")."""


def read_defaults(element: Element, settings: Settings) -> Defaults:
    """Return the keys that are the same for all legs."""
    keys = Keys(element, "services", settings)
    usual, bounds, retry = Defaults(), Limits(), RetryPolicy()
    found = Defaults(
        timeout=keys.take("timeout", optional(duration(0.001)), usual.timeout),
        limits=Limits(
            max_request=keys.take("max_request", size(1, _LARGEST_MESSAGE), bounds.max_request),
            max_buffered=keys.take("max_buffered", size(1, 1 << 40), bounds.max_buffered),
            max_response=keys.take("max_response", optional(size(1, _LARGEST_MESSAGE)), bounds.max_response),
            max_trailers=keys.take("max_trailers", size(256, 1 << 20), bounds.max_trailers),
            half_close=keys.take("half_close", optional(duration(0.001)), bounds.half_close),
            throttled_as=keys.take("throttled_as", _throttled_as, bounds.throttled_as),
        ),
        max_concurrency=keys.take("max_concurrency", integer(1, 1_000_000), usual.max_concurrency),
        retry=RetryPolicy(
            attempts=keys.take("retry.attempts", integer(1, 100), retry.attempts),
            backoff=keys.take("retry.backoff", duration(0), retry.backoff),
            max_backoff=keys.take("retry.max_backoff", duration(0), retry.max_backoff),
            budget=keys.take("retry.budget", percentage, retry.budget),
        ),
        compression=keys.take("compression", choice("pass", "identity"), usual.compression),
    )
    if found.retry.backoff > found.retry.max_backoff:
        which = "retry.backoff" if "retry.backoff" in settings else "retry.max_backoff"
        element.document.note(settings[which].refuse("backoff is longer than max_backoff"))
    return found


def read_leg(element: Element, settings: Settings, found: Target, weighed: float = 1.0) -> TargetShare:
    """Return the keys that say how to speak to a target."""
    keys = Keys(element, "services", settings)
    host = found.url.origin.host if isinstance(found, HttpTargetSpec) else None
    return TargetShare(
        target=found,
        weight=weighed,
        payload=keys.take("payload", _payload, "grpc-web"),
        event=keys.take("event", _event, "http-v2"),
        invoke_mode=keys.take("invoke_mode", choice("buffered", "response_stream"), "buffered"),
        descriptors=keys.take("descriptors", optional(_descriptors), None),
        json=JsonOptions(
            names=keys.take("json.names", choice("json", "proto"), "json"),
            defaults=keys.take("json.defaults", boolean, default=True),
        ),
        role_arn=keys.take("role_arn", optional(role), None),
        endpoint_url=keys.take("endpoint_url", optional(url), None),
        quirks=keys.take("quirks", optional(_quirks), None),
        tls=keys.take("tls", optional(_target_tls), None),
        headers=keys.take("headers", _headers, {}),
        auth=keys.take("auth", _auth(host), None),
    )


_quirks: Read[Literal["rie"]] = choice("rie")
_payload: Read[PayloadName] = choice("grpc-web", "grpc", "protobuf", "json")
_event: Read[EventShape] = choice("http-v2", "http-v1", "alb", "envoy", "raw")


def _descriptors(element: Element) -> DescriptorsPath:
    return DescriptorsPath(file_or_folder(element), element.place)


def _throttled_as(element: Element) -> StatusCode:
    return StatusCode[choice("UNAVAILABLE", "RESOURCE_EXHAUSTED")(element)]


def _target_tls(element: Element) -> TargetTls:
    keys = Keys.of(element, "services.tls")
    found = TargetTls(
        ca=keys.take("ca", optional(file), None),
        cert=keys.take("cert", optional(file), None),
        key=keys.take("key", optional(file), None),
        server_name=keys.take("server_name", optional(_server_name), None),
    )
    keys.close()
    if ("cert" in keys) != ("key" in keys):
        raise element.refuse("cert and key need each other")
    return found


def _server_name(element: Element) -> str:
    name = element.text("a host name")
    if not is_host(name):
        raise element.refuse(f"expected a host name, found {element.found}")
    return name


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
"""A token of RFC 9110 5.6.2."""

_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,8192}")

_BRIDGE_HEADERS = not_passed(Leg.CONFIGURED)
"""Headers that the bridge writes itself, or that are between two hops."""


def _headers(element: Element) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for key, value in element.hidden().keys().items():
        name = key.lower()
        try:
            if not _HEADER_NAME.fullmatch(name):
                raise value.refuse("not the name of a header")
            if name in _BRIDGE_HEADERS or name.startswith("grpc-"):
                raise value.refuse("the bridge sets this header itself")
            if name in headers:
                raise value.refuse("written twice: header names have no case")
            text = value.text()
            if not _HEADER_VALUE.fullmatch(text):
                raise value.refuse("a header's value is visible ASCII, at most 8KiB")
        except Refused as refused:
            element.document.note(refused)
            continue
        headers[name] = text
    return headers


_aws_service = pattern(r"[a-z0-9-]{1,64}", "the name AWS signs the service under, such as lambda")


def _auth(host: str | None) -> Read[IamAuth | None]:
    """`none`, `iam` or `{iam: {service, region}}`; what is not written, the target's host must tell."""

    def read_auth(element: Element) -> IamAuth | None:
        service = signed_region = None
        if element.is_mapping:
            keys = Keys.of(element, "services.auth")
            iam = keys.section("iam")
            service = iam.take("service", optional(_aws_service), None)
            signed_region = iam.take("region", optional(region), None)
            iam.close()
            keys.close()
        elif choice("none", "iam")(element) == "none":
            return None
        for name, known_service in _IAM_HOSTS:
            if host is not None and (matched := name.fullmatch(host.lower())):
                service, signed_region = service or known_service, signed_region or matched[1]
        if host is not None and (service is None or signed_region is None):
            raise element.refuse(
                f"neither service nor region can be told from {shown(host)}: {{iam: {{service: …, region: …}}}}"
            )
        return IamAuth(service or "", signed_region or "")

    return read_auth
