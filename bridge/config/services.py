"""`services` and `defaults`: keys taken apart, inheritance resolved, and what cannot work refused.

Inheritance works on elements, before they are read: an entry's keys are laid over those of the entry its service would
match, and these over `defaults`. What lies on top is read once, and each problem is reported where its value is
written.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from bridge.config.element import Element, shown
from bridge.config.formats import PAYLOADS, RAW, can_carry
from bridge.config.problems import Refused, did_you_mean
from bridge.config.reading import Plan, Settings, Trait, attempt, flatten, laid_over
from bridge.config.schema import (
    Defaults,
    Inherited,
    Match,
    MatchKind,
    Service,
    TargetShare,
)
from bridge.config.target import Can, LocalTarget, LocalWebTarget, TargetKind, parse_target, target
from bridge.config.values import weight

_LEG = Plan.of(TargetShare)
_SHARED = Plan.of(Defaults)
_SLOTS = {**_SHARED.slots, **_LEG.slots}
_ENTRY_KEYS = ("target", "split", *_SLOTS)
_SPLIT_KEYS = ("weight", *_LEG.slots)


def _top(name: str) -> str:
    return name.partition(".")[0]


def _with_trait(trait: Trait) -> frozenset[str]:
    return frozenset(_top(name) for name, slot in _SLOTS.items() if trait in slot.traits)


INHERITED_BY_OWN_TARGET = _with_trait(Inherited.ALWAYS)
"""What a method entry with a target of its own takes from its service's entry; without one it takes everything."""

NEEDS: Mapping[str, Can] = {name: can for can in Can for name in _with_trait(can)}
"""What a target must be able to do for a key to work on it. Other keys work on every target."""

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

    def __init__(
        self, defaults: Settings, local_functions: Collection[str] | None, web_functions: Collection[str] = ()
    ) -> None:
        self._defaults = defaults
        self._local_functions = local_functions
        """The names `local:` may use; None: another local Lambda knows them."""
        self._web_functions = web_functions
        """Those of them that are Web Functions."""
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
            return Service(key=entry.key, match=entry.match)
        settings = laid_over(laid_over(self._defaults, self._inherited(entry)), entry.settings)
        document = entry.element.document
        problems = len(document.problems)
        service = Plan.of(Service).read(entry.element, settings, key=entry.key, match=entry.match, legs=())
        legs = tuple(self._legs(entry, settings))
        if legs:
            _note_keys_without_effect(entry.settings, legs)
        if len(document.problems) == problems:
            _note_unused_json(entry.settings, legs)
        return replace(service, legs=legs)

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
        own = _read_settings(element, _SPLIT_KEYS, scalar="weight")
        if "weight" not in own:
            document.note(element.refuse('needs "weight"'))
        weighed = attempt(weight, own["weight"], 1.0) if "weight" in own else 1.0
        problems = len(document.problems)
        leg = self._leg(found, as_target, settings | own, entry, weighed)
        _note_keys_without_effect(own, (leg,))
        if len(document.problems) == problems:
            _note_unused_json(own, (leg,))
        return leg

    def _leg(
        self,
        found: TargetKind,
        element: Element,
        settings: Settings,
        entry: Entry,
        weighed: float = 1.0,
    ) -> TargetShare:
        """`element` is where the target is written."""
        names = self._local_functions
        local = found.local_function
        if local is not None and names is not None and local not in names:
            raise element.refuse(
                f"functions has no function named {shown(local)}{did_you_mean(local, names, listed=True)}"
            )
        if local is not None and local in self._web_functions:
            found = LocalWebTarget(local)
        document = entry.element.document
        problems = len(document.problems)
        working = {name: value for name, value in settings.items() if _works_on(_top(name), found)}
        leg = replace(read_leg(element, working, found, weighed), place=element.place)
        if len(document.problems) == problems:
            written = [name for name, value in working.items() if value is not self._defaults.get(name)]
            for keys, message in _crossings(leg, written):
                own = (settings[key] for key in keys if key in entry.settings)
                document.note(next(own, entry.element).refuse(message))
        return leg


def _read_entry(key: str, element: Element) -> Entry:
    try:
        match = parse_key(key)
    except ValueError as error:
        raise element.refuse(str(error)) from error
    return Entry(key, match, element, _read_settings(element, _ENTRY_KEYS, scalar="target"))


def _read_settings(element: Element, known: Collection[str], *, scalar: str) -> Settings:
    """Return the keys of a mapping. Text or null alone is the value of the key `scalar`. Raises Refused otherwise."""
    if not element.is_mapping and not element.is_list:
        return {scalar: element}
    return flatten(element.keys(), known)


# -- what cannot work --------------------------------------------------------------------------------------------------


def _works_on(key: str, found: TargetKind) -> bool:
    return key not in NEEDS or NEEDS[key] in found.can


def _note_settings_of_null(entry: Entry) -> None:
    for name, element in entry.settings.items():
        if name != "target":
            element.document.note(element.refuse("has no effect without a target"))


def _note_keys_without_effect(own: Settings, legs: tuple[TargetShare, ...]) -> None:
    """`own`: what is written for these legs alone; what they inherit may be without effect, and so may null."""
    for name, element in own.items():
        if not element.is_null and not any(_works_on(_top(name), leg.target) for leg in legs):
            on = " or ".join(dict.fromkeys(leg.target.label for leg in legs))
            element.document.note(element.refuse(f"has no effect on {on}"))


def _note_unused_json(own: Settings, legs: tuple[TargetShare, ...]) -> None:
    if any(PAYLOADS[leg.payload].needs_descriptors for leg in legs):
        return
    converting = " or ".join(name for name, payload in PAYLOADS.items() if payload.needs_descriptors)
    for name, element in own.items():
        if _top(name) == "json":
            element.document.note(element.refuse(f"has no effect without payload: {converting}"))


def _crossings(leg: TargetShare, written: Collection[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what the leg asks for and cannot be: the keys that together are at fault, and why. `written` are the keys
    that are set, and not by `defaults` alone.
    """
    if not can_carry(leg.event, leg.payload):
        yield ("event", "payload"), f"event: {leg.event} cannot carry payload: {leg.payload}"
    if PAYLOADS[leg.payload].needs_descriptors and leg.descriptors is None:
        yield ("payload",), f"payload: {leg.payload} needs descriptors"
    if leg.duplex.use == "always" and not leg.has_duplex_form:
        with_what = "quirks: rie" if leg.quirks is not None else f"payload: {leg.payload}"
        yield (
            ("duplex.use", "duplex", "payload", "quirks"),
            f"duplex needs payload: grpc-web, and cannot go with {with_what}",
        )
    if leg.connect_to is not None and leg.quirks is not None:
        yield ("connect_to", "quirks"), f"connect_to has no effect with quirks: {leg.quirks}"
    if leg.durable is not None:
        yield from _durable_crossings(leg, written)
    if leg.tenant is not None and leg.quirks is not None:
        yield ("tenant", "quirks"), f"tenant has no effect with quirks: {leg.quirks}, which knows no tenants"
    if leg.auth is not None:
        for name in leg.headers:
            if name == "authorization" or name.startswith("x-amz-"):
                yield ("headers", "auth"), f"auth: iam sets {name} itself"


def _durable_crossings(leg: TargetShare, written: Collection[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    keys = ("durable.name.metadata", "durable.name", "durable")
    if leg.invoke_mode == "response_stream":
        yield ("invoke_mode", *keys), "durable needs invoke_mode: buffered, because streamed invocations take no name"
    duplex = tuple(name for name in written if _top(name) == "duplex")
    if leg.duplex.use == "always" or (duplex and leg.duplex.use != "never"):
        yield (
            ("duplex.use", *duplex, *keys),
            "durable needs duplex: {use: never}, because calls in full duplex are no executions",
        )
    if leg.quirks is not None:
        yield ("quirks", *keys), f"durable has no effect with quirks: {leg.quirks}, which keeps no executions"
    if leg.tenant is not None and leg.event == RAW:
        yield (
            ("event", *keys),
            "durable with a tenant cannot go with event: raw, in which equal calls of two tenants are one execution",
        )
    if not leg.target.is_qualified:
        yield keys, f"durable needs a version or an alias: {leg.target}:ALIAS"


# -- reading an entry's keys -------------------------------------------------------------------------------------------


def _read_all(element: Element, settings: Settings) -> None:
    """Read an entry that leads nowhere, for its problems' sake."""
    _SHARED.read(element, settings)
    read_leg(element, settings, LocalTarget(""))


def read_service_defaults(element: Element, elements: Mapping[str, Element]) -> tuple[Settings, Defaults]:
    """`defaults`: as entries inherit it, and as calls without an entry see it."""
    settings = flatten(elements, tuple(_SLOTS))
    read_leg(element, settings, LocalTarget(""))
    return settings, _SHARED.read(element, settings)


def read_leg(element: Element, settings: Settings, found: TargetKind, weighed: float = 1.0) -> TargetShare:
    """Return the keys that say how to speak to a target."""
    leg = _LEG.read(element, settings, target=found, weight=weighed)
    auth, host = leg.auth, found.host
    if auth is None or host is None:
        return leg
    return replace(leg, auth=attempt(lambda written: auth.completed(host, written), settings["auth"], None))
