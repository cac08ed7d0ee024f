"""The outermost mapping of the file: what its fields cannot say themselves, and what only several sections together can
get wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from bridge.config.console import console_warning
from bridge.config.element import Element
from bridge.config.endpoint import endpoint_in
from bridge.config.problems import Place, Problem, Refused
from bridge.config.reading import Plan, Settings, attempt, mapping
from bridge.config.schema import LOOPBACK, Admin, Aws, Config, Emulator, FunctionConfig, Listener, WebFunctionConfig
from bridge.config.services import ServicesReader, read_service_defaults
from bridge.config.target import FUNCTION_NAME
from bridge.config.values import Read, ValueType, address, optional, tcp_address, url
from bridge.rpc.address import Address, TcpAddress, UnixAddress
from bridge.rpc.url import Url


def read_config(root: Element, environ: Mapping[str, str]) -> Config:
    """All problems are noted in the document: the result is worth something only without any."""
    plan = Plan.of(Config)
    settings = plan.flatten(root.keys())
    _check_endpoint_in(environ, root)
    ports = _Ports(settings, root.document.overrides)
    emulator = ports.emulator(Config().emulator)
    functions = _elements(settings, "functions")
    inherited, defaults = read_service_defaults(settings.get("defaults", root), _elements(settings, "defaults"))
    services = _elements(settings, "services")
    local = _read_functions(functions)
    web = {name for name, function in local.items() if function.web is not None}
    reader = ServicesReader(inherited, None if isinstance(emulator, Url) else functions, web)
    config = plan.read(
        root,
        settings,
        overrides=root.document.overrides,
        listen=ports.listen(Config().listen),
        admin=ports.admin(Config().admin),
        emulator=emulator,
        defaults=defaults,
        services=reader.read(services),
        functions=local,
    )
    _check_duplex(services, config)
    _note_kinds_of_endpoint(settings, config.aws)
    config = replace(config, warnings=tuple(_warnings(root, config, settings)))
    if not root.document.problems:
        _note_shared_addresses(root, settings, config)
    return config


def _elements(settings: Settings, name: str) -> dict[str, Element]:
    """Return the keys under a key, none if it is absent."""
    return attempt(Element.keys, settings[name], {}) if name in settings else {}


def _read_functions(elements: Mapping[str, Element]) -> dict[str, FunctionConfig]:
    functions = {}
    for name, element in elements.items():
        try:
            functions[name] = _function(name, element)
        except Refused as refused:
            element.document.note(refused)
    return functions


def _function(name: str, element: Element) -> FunctionConfig:
    if not re.fullmatch(FUNCTION_NAME, name):
        raise element.refuse("a function's name is 1 to 64 of A-Z a-z 0-9 - _")
    plan = Plan.of(FunctionConfig)
    settings = plan.flatten(element.keys())
    given: dict[str, Any] = {} if "code" in settings else {"code": element.document.folder}
    if "web" in settings and not settings["web"].is_null:
        given |= {key: value for key, value in WebFunctionConfig.usual.items() if key not in settings}
    places = {"": element.place} | {key: each.place for key, each in settings.items()}
    return plan.read(element, settings, name=name, places=places, **given)


# -- listen, admin, emulator -------------------------------------------------------------------------------------------


class _Ports:
    """Where the bridge listens. An address from a flag or variable replaces that of the file, and nothing else: its TLS
    settings and host names stay.
    """

    def __init__(self, settings: Settings, overrides: Mapping[str, Element]) -> None:
        self._settings = settings
        self._overrides = overrides

    def listen(self, usual: tuple[Listener, ...]) -> tuple[Listener, ...]:
        """Of several listeners none is replaced."""
        written = self._written("listen", _listeners, usual)

        def moved(element: Element) -> tuple[Listener, ...]:
            if len(written) > 1 and any(listener.tls for listener in written):
                raise element.refuse("would replace several listeners and their tls; leave it out")
            return (replace(written[0], address=address(element)),)

        return self._overridden("listen", moved, written)

    def admin(self, usual: Admin | None) -> Admin | None:
        written = self._written("admin", optional(mapping(Admin)), usual)
        others = Admin() if written is None else written

        def moved(element: Element) -> Admin | None:
            return None if element.is_null else replace(others, address=tcp_address(element))

        return self._overridden("admin", moved, written)

    def emulator(self, usual: Emulator | Url) -> Emulator | Url:
        written = self._written("emulator", _emulator, usual)
        others = Emulator() if isinstance(written, Url) else written

        def moved(element: Element) -> Emulator | Url:
            found = _emulator_place(element)
            return found if isinstance(found, Url) else replace(others, address=found)

        return self._overridden("emulator", moved, written)

    def _written(self, name: str, read: Read[ValueType], usual: ValueType) -> ValueType:
        return attempt(read, self._settings[name], usual) if name in self._settings else usual

    def _overridden(self, name: str, read: Read[ValueType], written: ValueType) -> ValueType:
        return attempt(read, self._overrides[name], written) if name in self._overrides else written


def _listeners(element: Element) -> tuple[Listener, ...]:
    if not element.is_list:
        return (mapping(Listener)(element),)
    listeners: list[Listener] = []
    items = element.items()
    if not items:
        raise element.refuse("needs at least one address")
    for item in items:
        try:
            listener = mapping(Listener)(item)
            if _is_a_place(listener.address) and listener.address in [each.address for each in listeners]:
                raise item.refuse(f"{listener.address} is listed twice")
        except Refused as refused:
            element.document.note(refused)
            continue
        listeners.append(listener)
    return tuple(listeners)


def _is_a_place(given: Address) -> bool:
    """Whether it can be had once only: each port 0 becomes another port."""
    return not isinstance(given, TcpAddress) or given.port != 0


def _emulator(element: Element) -> Emulator | Url:
    plan = Plan.of(Emulator)
    settings = plan.flatten(element.keys()) if element.is_mapping else {"address": element}
    place = attempt(_emulator_place, settings["address"], None) if "address" in settings else None
    if not isinstance(place, Url):
        return plan.read(element, settings, address=place or Emulator().address)
    for name, written in settings.items():
        if name != "address" and not written.is_null:
            raise written.refuse(f"has no effect: {place} is a local Lambda that runs already")
    return place


def _emulator_place(element: Element) -> TcpAddress | Url:
    found = element.text("an address such as 127.0.0.1:9001, or the URL of a local Lambda")
    return url(element) if "://" in found else tcp_address(element)


# -- between sections --------------------------------------------------------------------------------------------------


def _check_endpoint_in(environ: Mapping[str, str], root: Element) -> None:
    """Note an endpoint of the environment that cannot be used. The carriers read it themselves: a profile may ignore
    it.
    """
    found = endpoint_in(environ)
    if found is None:
        return
    name, text = found
    document = root.document.literal(name, root.document.folder)
    attempt(url, Element.of_text(text, Place(name), document), None)


def _check_duplex(elements: Mapping[str, Element], config: Config) -> None:
    """Note services that insist on full duplex while functions have nowhere to connect."""
    if config.duplex is not None:
        return
    for key, service in config.services.items():
        if any(leg.duplex.use == "always" for leg in service.legs):
            element = elements[key]
            element.document.note(
                element.refuse("duplex.use: always needs the section duplex, with the address where functions connect")
            )


def _note_kinds_of_endpoint(settings: Settings, aws: Aws) -> None:
    """Refuse what botocore refuses too (its rule set of Lambda's endpoints): a configured endpoint is used as it is."""
    if aws.endpoint_url is None:
        return
    for name, is_set in (("aws.dual_stack", aws.dual_stack), ("aws.fips", aws.fips)):
        if is_set:
            settings[name].document.note(settings[name].refuse("has no effect with endpoint_url"))


def _note_shared_addresses(root: Element, settings: Settings, config: Config) -> None:
    """Two servers cannot have one port; 0 is any free one."""
    taken: dict[Address, str] = {listener.address: "listen" for listener in config.listen}
    duplex = None if config.duplex is None else config.duplex.listen
    ports = (("admin", config.admin), ("emulator", config.emulator))
    addresses = [(name, port.address) for name, port in ports if port is not None and not isinstance(port, Url)]
    for name, found in (*addresses, ("duplex", duplex)):
        if found is None or found.port == 0:
            continue
        if name == "emulator" and not config.functions:
            continue
        if found in taken:
            place = settings[name].place if name in settings else root.place.key(name, None)
            message = f"{found} is taken by {taken[found]}"
            root.document.problems.append(Problem.at(place, message))
        taken[found] = name
    for function in config.functions.values():
        if function.debug is None:
            continue
        found = TcpAddress(LOOPBACK, function.debug.port)
        if found in taken:
            root.document.problems.append(Problem.at(function.places["debug"], f"{found} is taken by {taken[found]}"))
        taken[found] = f"functions.{function.name}.debug"


_EVERYBODY = 0o002
"""The permission that connecting to a Unix socket takes (unix(7)), for all users."""


def _warnings(root: Element, config: Config, settings: Settings) -> Iterator[Problem]:
    def at(name: str, message: str) -> Problem:
        place = settings[name].place if name in settings else root.place.key(name, None)
        return Problem.at(place, message)

    if not config.services and not _elements(settings, "services"):
        yield at("services", "none, so every call is UNIMPLEMENTED")
    if config.functions and isinstance(config.emulator, Url):
        yield at("functions", f"not run, because emulator names one that runs already: {config.emulator}")
    for listener in config.listen:
        if isinstance(listener.address, UnixAddress) and listener.mode & _EVERYBODY:
            what = f"every user of this machine may connect to {listener.address} (mode {listener.mode:04o})"
            yield at("listen", what)
    for what in (*_believed_tenants(config), *_unseen_tenants(config)):
        yield at("listen", what)
    if (what := console_warning(config)) != "":
        yield at("admin", what)


def _unseen_tenants(config: Config) -> Iterator[str]:
    """Yield a warning if certificates name tenants, and no listener asks for any."""
    if any(listener.tls is not None and listener.tls.client_ca is not None for listener in config.listen):
        return
    for service in config.services.values():
        if any(leg.tenant is not None and leg.tenant.certificate is not None for leg in service.legs):
            yield (
                "no listener asks clients for a certificate (tls.client_ca), so calls that take their tenant from it"
                f" end UNAUTHENTICATED: {service.key}"
            )
            return


def _believed_tenants(config: Config) -> Iterator[str]:
    """Yield a warning for each listener where clients on other hosts may claim to be any tenant."""
    believing = (
        f"{service.key} takes the tenant from the metadata {leg.tenant.metadata}"
        for service in config.services.values()
        for leg in service.legs
        if leg.tenant is not None and leg.tenant.metadata is not None
    )
    service = next(believing, None)
    if service is None:
        return
    for listener in config.listen:
        if listener.is_exposed:
            yield (
                f"every client that reaches {listener.address} may claim any tenant: it asks for no certificate"
                f" (tls.client_ca), and {service}"
            )
