"""The descriptors that a configuration names: each file or folder is read once, for the services that are routed to it.

In: a Config. Out: Descriptors by path, or every problem with the line and key that name the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from bridge.config.formats import PAYLOADS
from bridge.config.problems import ConfigErrors, Problem, did_you_mean
from bridge.config.schema import Config, MatchKind, Service
from bridge.config.values import DescriptorsPath
from bridge.routing.router import Router
from bridge.services.conflicts import conflicts
from bridge.services.descriptors import Descriptors, load_descriptors
from bridge.services.errors import BadDescriptors
from bridge.services.proto_folder import IsWanted, NoWantedService


def load_configured(config: Config) -> dict[str, Descriptors]:
    """By path. It blocks: run it in a thread. Raises ConfigErrors with all problems."""
    loaded: dict[str, Descriptors] = {}
    problems: list[Problem] = []
    for named in _first_named(config):
        name = str(named.path)
        try:
            loaded[name] = load_descriptors(named.path, is_wanted=_routed_to(name, config))
        except NoWantedService as error:
            loaded[name] = Descriptors((), name=name, declared=error.declared)
        except BadDescriptors as error:
            problems.append(Problem.at(named.place, str(error)))
    problems += _services_without_descriptors(config, loaded)
    if problems:
        raise ConfigErrors(problems)
    return loaded


def warnings_about(config: Config, loaded: Mapping[str, Descriptors]) -> list[Problem]:
    """Return what is probably wrong with the descriptors but keeps nothing from working."""
    missing = (problem for service, named, problem in _undescribed(config, loaded) if not _needs(service, named))
    first = {str(named.path): named.place for named in _first_named(config)}
    return [*missing, *(Problem.at(first[name], found) for name, found in conflicts(loaded.values()))]


def _first_named(config: Config) -> Iterable[DescriptorsPath]:
    """Each path once, with the first place that names it."""
    first: dict[str, DescriptorsPath] = {}
    for service in config.services.values():
        for named in _named_by(service):
            first.setdefault(str(named.path), named)
    return first.values()


def _named_by(service: Service) -> Iterator[DescriptorsPath]:
    return (leg.descriptors for leg in service.legs if leg.descriptors is not None)


def _routed_to(path: str, config: Config) -> IsWanted:
    """Whether calls to a service lead to an entry that has its descriptors from this path."""
    entries = {
        key: service if any(str(named.path) == path for named in _named_by(service)) else None
        for key, service in config.services.items()
    }
    return Router(entries).serves


def _services_without_descriptors(config: Config, loaded: Mapping[str, Descriptors]) -> Iterator[Problem]:
    return (problem for service, named, problem in _undescribed(config, loaded) if _needs(service, named))


def _needs(service: Service, named: DescriptorsPath) -> bool:
    """Whether no call of the entry can be served without these descriptors."""
    return any(PAYLOADS[leg.payload].needs_descriptors and leg.descriptors == named for leg in service.legs)


def _undescribed(
    config: Config, loaded: Mapping[str, Descriptors]
) -> Iterator[tuple[Service, DescriptorsPath, Problem]]:
    """Entries whose own descriptors know none of their services. What `defaults` names need not know them all."""
    for service in config.services.values():
        for named in _named_by(service):
            described = loaded.get(str(named.path))
            if described is None or named.is_default or _knows(described, service):
                continue
            message = f"{named.path} declares no service that is routed to {service.key}"
            hint = _nearest(service, described) or _listed(described)
            yield service, named, Problem.at(named.place, message + hint)


def _knows(described: Descriptors, service: Service) -> bool:
    return any(map(Router({service.key: service}).serves, described.services))


def _nearest(service: Service, described: Descriptors) -> str:
    """For a misspelt name. A prefix is not one."""
    if service.match.kind not in (MatchKind.SERVICE, MatchKind.METHOD):
        return ""
    return did_you_mean(service.match.service, described.declared)


_MAX_LISTED = 5


def _listed(described: Descriptors) -> str:
    names = sorted(described.declared)
    if not names:
        return "; it declares none at all"
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return f"; it declares {', '.join(names[:_MAX_LISTED])}{more}"
