"""Sources: which descriptors answer for which route.

In: the keys of `services`, each with the descriptors that the configuration names and the target that may be asked for
its own. Out: who describes a symbol, a file, a method. The source of the matching route answers; what no route points
at (a message's type, a file that is imported) is sought in all that is known. Replaced as a whole when the
configuration is reloaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.routing.router import Router
from bridge.services import builtin
from bridge.services.errors import NotDescribed

if TYPE_CHECKING:
    from google.protobuf.descriptor import MethodDescriptor

    from bridge.services.descriptors import Descriptors, MethodKind
    from bridge.services.reflected_target import ReflectedTarget

_ANY_METHOD = "-"


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What can be known about the services of one entry."""

    descriptors: Descriptors | None = None
    """From `descriptors`."""
    target: ReflectedTarget | None = None
    """Asked when the descriptors do not cover what a client wants to know."""

    def known(self) -> Iterator[Descriptors]:
        """Yield what can be answered without asking anybody."""
        if self.descriptors is not None:
            yield self.descriptors
        if self.target is not None and self.target.known is not None:
            yield self.target.known

    async def find(self, symbol: str, *, service: str) -> Descriptors | None:
        """Return the descriptors that define the symbol. Raises NotDescribed if a target could not be asked."""
        for descriptors in self.known():
            if descriptors.file_of(symbol) is not None:
                return descriptors
        if self.target is None or self.target.known is not None:
            return None
        descriptors = await self.target.describe(service)
        return descriptors if descriptors.file_of(symbol) is not None else None


class Sources:
    """The sources of all entries, and the built-in services' own."""

    def __init__(self, entries: Mapping[str, Source | None]) -> None:
        """`entries`: by key of `services`; None: the entry is null, its methods are UNIMPLEMENTED."""
        self._router = Router(entries)
        sources = {id(source): source for source in entries.values() if source is not None}
        self._all = tuple(sources.values())
        self._of_methods: dict[str, list[Source]] = {}
        for key, source in entries.items():
            service, slash, _ = key.partition("/")
            if slash and source is not None:
                self._of_methods.setdefault(service, []).append(source)

    def close(self) -> None:
        """Break off what is being asked."""
        for source in self._all:
            if source.target is not None:
                source.target.close()

    def forget(self, target: str) -> None:
        """Drop what the target of this name said of itself."""
        for source in self._all:
            if source.target is not None and source.target.name == target:
                source.target.forget()

    # -- services and methods ------------------------------------------------------------------------------------------

    def services(self) -> list[str]:
        """Return the built-in services, those that keys name in full, and those known under other keys; sorted."""
        under_prefixes = {
            service
            for source in self._all
            for descriptors in source.known()
            for service in descriptors.services
            if self._router.match_service(service) is source
        }
        return sorted({*builtin.METHODS, *self._router.services, *under_prefixes})

    def find_method(self, service: str, method: str) -> MethodDescriptor | None:
        """Return the method as the source of its route describes it, or None if it is not known. No target is asked."""
        source = self._router.match(f"/{service}/{method}")
        if source is None:
            return None
        found = (descriptors.find_method(service, method) for descriptors in source.known())
        return next((descriptor for descriptor in found if descriptor is not None), None)

    def method_kind(self, path: str) -> MethodKind:
        """Return the kind of `/package.Service/Method`, for metrics."""
        service, _, method = path[1:].rpartition("/")
        if service in builtin.METHODS and not self._router.names(path):
            return builtin.METHODS[service].get(method, "unknown")
        found = self.find_method(service, method)
        if found is None:
            return "unknown"
        from bridge.services.descriptors import kind_of

        return kind_of(found)

    def known(self) -> list[Descriptors]:
        """All descriptors at hand, those of each entry in its order, without the built-in ones."""
        return [descriptors for source in self._all for descriptors in source.known()]

    def at_hand(self, service: str) -> Descriptors | None:
        """Return descriptors that define this service, or None if nothing here does. No target is asked."""
        return builtin.descriptors() if self._is_built_in(service) else self._at_hand(service, None)

    # -- what reflection looks for -------------------------------------------------------------------------------------

    async def describing(self, symbol: str, *, beside: Descriptors | None = None) -> Descriptors:
        """Return the descriptors that define a service, method, message, field, enum or extension.

        `beside`: what the client has been told last; a type that several sources know is taken from there. Raises
        NotDescribed.
        """
        if self._is_built_in(symbol):
            return builtin.descriptors()
        failures: list[NotDescribed] = []
        found = (
            await _search(self._owners(symbol), symbol, failures)
            or self._at_hand(symbol, beside)
            or await _search(self._others_to_ask(symbol), symbol, failures)
        )
        if found is not None:
            return found
        raise failures[0] if failures else NotDescribed(f"nothing here describes {symbol[:200]}")

    def with_file(self, filename: str, *, beside: Descriptors | None = None) -> Descriptors | None:
        """Descriptors that hold a file of this name, `beside` before others; protobuf's own files are always there."""
        from bridge.services.descriptors import Descriptors, well_known_file

        for descriptors in (*_present(beside), *self.known(), builtin.descriptors()):
            if descriptors.has_file(filename):
                return descriptors
        well_known = well_known_file(filename)
        return None if well_known is None else Descriptors((well_known,), name="protobuf")

    def _at_hand(self, symbol: str, beside: Descriptors | None) -> Descriptors | None:
        matching = self._router.match_service(symbol)
        first = () if matching is None else tuple(matching.known())
        for descriptors in (*first, *_present(beside), *self.known(), builtin.error_details()):
            if descriptors.file_of(symbol) is not None:
                return descriptors
        return None

    def _is_built_in(self, symbol: str) -> bool:
        is_overridden = any(self._has_own_key(service) for service in _services_in(symbol))
        return not is_overridden and builtin.descriptors().file_of(symbol) is not None

    def _has_own_key(self, service: str) -> bool:
        return self._router.names(f"/{service}/{_ANY_METHOD}")

    def _owners(self, symbol: str) -> Iterator[tuple[Source, str]]:
        """Yield the sources of services that have a key of their own, if the symbol names one or a method of one."""
        for service in _services_in(symbol):
            source = self._router.match_service(service) if self._has_own_key(service) else None
            if source is not None:
                yield source, service

    def _others_to_ask(self, symbol: str) -> Iterator[tuple[Source, str]]:
        """Yield the sources whose targets may know the symbol, the likeliest first.

        First the source of the prefix it lies under, then those of single methods. Then those of services in its
        package, because a message is mostly defined next to the service that uses it.
        """
        by_prefix = self._router.match_service(symbol)
        if by_prefix is not None:
            yield by_prefix, symbol
        for service in _services_in(symbol):
            for source in self._of_methods.get(service, ()):
                yield source, service
        for service in self._router.services:
            if not _is_in_package_of(service, symbol):
                continue
            for source in (self._router.match_service(service), *self._of_methods.get(service, ())):
                if source is not None:
                    yield source, service


async def _search(
    candidates: Iterator[tuple[Source, str]], symbol: str, failures: list[NotDescribed]
) -> Descriptors | None:
    """Return the first descriptors that define the symbol; targets that could not be asked add to `failures`."""
    for source, service in candidates:
        try:
            found = await source.find(symbol, service=service)
        except NotDescribed as failure:
            failures.append(failure)
        else:
            if found is not None:
                return found
    return None


def _present(beside: Descriptors | None) -> tuple[Descriptors, ...]:
    return () if beside is None else (beside,)


def _services_in(symbol: str) -> tuple[str, ...]:
    """Return the services that the symbol may be, or be a method of."""
    parent = symbol.rpartition(".")[0]
    return (symbol, parent) if parent else (symbol,)


def _is_in_package_of(service: str, symbol: str) -> bool:
    package = service.rpartition(".")[0]
    return symbol.startswith(f"{package}.") if package else "." not in symbol
