"""The outermost mapping of the file: every section read into Config, and what only several sections together can get
wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bridge.config.element import Element
from bridge.config.endpoint import endpoint_in
from bridge.config.functions import read_functions
from bridge.config.problems import Place, Problem, Refused
from bridge.config.schema import (
    SOCKET_MODE,
    Address,
    Admin,
    Aws,
    Config,
    Defaults,
    Emulator,
    Health,
    Http2,
    Listener,
    Log,
    TcpAddress,
    TlsFiles,
    UnixAddress,
)
from bridge.config.services import ServicesReader, Settings, read_service_defaults
from bridge.config.values import (
    Keys,
    address,
    boolean,
    choice,
    duration,
    file,
    host_names,
    integer,
    optional,
    pattern,
    region,
    role,
    size,
    socket_mode,
    tcp_address,
    url,
)
from bridge.http2.interface import EngineLimits
from bridge.rpc.limits import ConnectionLimits, MaxConnections, PoolLimits
from bridge.rpc.url import Url

_NOWHERE: Address = TcpAddress("", 0)
"""Stands in for an address that is missing, which has been noted."""

_AN_INSTANT = 0.001
"""Seconds: the least of durations that may not be zero."""


def read_config(root: Element, environ: Mapping[str, str]) -> Config:
    """All problems are noted in the document: the result is worth something only without any."""
    keys = Keys.of(root, "")
    usual = Config()
    functions_by_name = keys.section("functions").elements
    functions = read_functions(functions_by_name)
    emulator = _emulator(keys, usual.emulator)
    inherited, defaults = _defaults(keys)
    services = keys.section("services")
    reader = ServicesReader(inherited, None if isinstance(emulator, Url) else functions_by_name)
    config = Config(
        listen=_listen(keys, usual.listen),
        admin=_admin(keys, usual.admin),
        emulator=emulator,
        workers=keys.take("workers", integer(0, 1024), usual.workers),
        http2=_http2(keys.section("http2")),
        max_connections=_max_connections(keys.section("max_connections")),
        drain=keys.take("drain", duration(0), usual.drain),
        drain_delay=keys.take("drain_delay", duration(0), usual.drain_delay),
        buffers=keys.take("buffers", size(1 << 20, 1 << 40), usual.buffers),
        aws=_aws(keys.section("aws"), environ),
        defaults=defaults,
        services=reader.read(services.elements),
        functions=functions,
        reflection=keys.take("reflection", boolean, usual.reflection),
        health=_health(keys.section("health")),
        log=_log(keys.section("log")),
    )
    warnings = _warnings(root.place, config, services.elements)
    config = replace(config, warnings=tuple(warnings))
    keys.close()
    if not root.document.problems:
        _note_shared_addresses(keys, config)
    return config


def _defaults(keys: Keys) -> tuple[Settings, Defaults]:
    section = keys.section("defaults")
    return read_service_defaults(section.element, section.elements)


# -- listen ------------------------------------------------------------------------------------------------------------


def _listen(keys: Keys, usual: tuple[Listener, ...]) -> tuple[Listener, ...]:
    """Return the listeners. An address from a flag or variable replaces that of the file's only listener. Its TLS
    settings stay: BRIDGE_LISTEN must not remove the TLS settings of the file.
    """
    written = keys.take_written("listen", _listeners, usual)

    def moved(element: Element) -> tuple[Listener, ...]:
        if len(written) > 1 and any(listener.tls for listener in written):
            raise element.refuse("would replace several listeners and their tls; leave it out")
        return (replace(written[0], address=address(element)),)

    return keys.take_override("listen", moved, written)


def _listeners(element: Element) -> tuple[Listener, ...]:
    if not element.is_list:
        return (_listener(element),)
    listeners: list[Listener] = []
    items = element.items()
    if not items:
        raise element.refuse("needs at least one address")
    for item in items:
        try:
            listener = _listener(item)
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


def _listener(element: Element) -> Listener:
    if not element.is_mapping:
        return Listener(address(element))
    keys = Keys.of(element, "listen")
    found = Listener(
        address=keys.need("address", address, _NOWHERE),
        tls=keys.take("tls", optional(_tls_files), None),
        mode=keys.take("mode", socket_mode, SOCKET_MODE),
    )
    keys.close()
    if "mode" in keys and isinstance(found.address, TcpAddress) and found.address != _NOWHERE:
        raise keys.elements["mode"].refuse("has no effect: only a unix: address has a mode")
    return found


def _tls_files(element: Element) -> TlsFiles:
    keys = Keys.of(element, "listen.tls")
    nowhere = element.document.folder
    found = TlsFiles(
        cert=keys.need("cert", file, nowhere),
        key=keys.need("key", file, nowhere),
        client_ca=keys.take("client_ca", optional(file), None),
    )
    keys.close()
    return found


# -- the other ports ---------------------------------------------------------------------------------------------------


def _admin(keys: Keys, usual: Admin | None) -> Admin | None:
    """Return the admin port. An address from a flag or variable leaves it the file's `hosts`."""
    written = keys.take_written("admin", optional(_admin_port), usual)
    hosts = () if written is None else written.hosts

    def moved(element: Element) -> Admin | None:
        return None if element.is_null else Admin(tcp_address(element), hosts)

    return keys.take_override("admin", moved, written)


def _admin_port(element: Element) -> Admin:
    if not element.is_mapping:
        return Admin(tcp_address(element))
    keys, usual = Keys.of(element, "admin"), Admin()
    found = Admin(
        address=keys.take("address", tcp_address, usual.address),
        hosts=keys.take("hosts", host_names, usual.hosts),
    )
    keys.close()
    return found


def _emulator(keys: Keys, usual: Emulator | Url) -> Emulator | Url:
    """Return the local Lambda. An address from a flag leaves it the file's `hosts`."""
    written = keys.take_written("emulator", _emulator_port, usual)
    hosts = () if isinstance(written, Url) else written.hosts

    def moved(element: Element) -> Emulator | Url:
        found = _emulator_place(element)
        return found if isinstance(found, Url) else Emulator(found, hosts)

    return keys.take_override("emulator", moved, written)


def _emulator_port(element: Element) -> Emulator | Url:
    if not element.is_mapping:
        found = _emulator_place(element)
        return found if isinstance(found, Url) else Emulator(found)
    keys, usual = Keys.of(element, "emulator"), Emulator()
    usual_place: TcpAddress | Url = usual.address
    place = keys.take("address", _emulator_place, usual_place)
    hosts = keys.take("hosts", host_names, usual.hosts)
    keys.close()
    if not isinstance(place, Url):
        return Emulator(place, hosts)
    if "hosts" in keys:
        raise keys.elements["hosts"].refuse(f"has no effect: {place} is a local Lambda that runs already")
    return place


def _emulator_place(element: Element) -> TcpAddress | Url:
    found = element.text("an address such as 127.0.0.1:9001, or the URL of a local Lambda")
    return url(element) if "://" in found else tcp_address(element)


# -- sections ----------------------------------------------------------------------------------------------------------


def _http2(keys: Keys) -> Http2:
    usual = Http2()
    limits, times = usual.limits, usual.times
    keepalive = keys.section("keepalive")
    found = Http2(
        engine=keys.take("engine", choice("native", "h2"), usual.engine),
        limits=EngineLimits(
            max_concurrent_streams=keys.take(
                "max_concurrent_streams", integer(1, 1_000_000), limits.max_concurrent_streams
            ),
            max_header_list=keys.take("max_header_list", size(1 << 10, 1 << 20), limits.max_header_list),
            max_metadata=keys.take("max_metadata", integer(1, 10_000), limits.max_metadata),
            min_ping_interval=keepalive.take("min_client_interval", duration(0), limits.min_ping_interval),
        ),
        times=ConnectionLimits(
            keepalive_interval=keepalive.take("interval", optional(duration(1)), times.keepalive_interval),
            keepalive_timeout=keepalive.take("timeout", duration(_AN_INSTANT), times.keepalive_timeout),
            max_age=keys.take("max_connection_age", optional(duration(_AN_INSTANT)), times.max_age),
            idle=keys.take("idle_timeout", optional(duration(_AN_INSTANT)), times.idle),
            stream_idle=keys.take("stream_idle", optional(duration(_AN_INSTANT)), times.stream_idle),
        ),
    )
    keepalive.close()
    keys.close()
    return found


def _max_connections(keys: Keys) -> MaxConnections:
    usual = MaxConnections()
    found = MaxConnections(
        total=keys.take("total", integer(1, 1_000_000), usual.total),
        per_peer=keys.take("per_peer", optional(integer(1, 1_000_000)), usual.per_peer),
    )
    keys.close()
    return found


_profile = pattern(r"[^\0-\x1f\x7f\[\]]{1,128}", "the name of a profile")


def _aws(keys: Keys, environ: Mapping[str, str]) -> Aws:
    usual = Aws()
    _check_endpoint_in(environ, keys)
    found = Aws(
        region=keys.take("region", optional(region), usual.region),
        profile=keys.take("profile", optional(_profile), usual.profile),
        role_arn=keys.take("role_arn", optional(role), usual.role_arn),
        endpoint_url=keys.take("endpoint_url", optional(url), usual.endpoint_url),
        pool=PoolLimits(
            idle_connections=keys.take("idle_connections", integer(0, 100_000), usual.pool.idle_connections),
            idle_timeout=keys.take("idle_timeout", duration(0), usual.pool.idle_timeout),
        ),
    )
    keys.close()
    return found


def _check_endpoint_in(environ: Mapping[str, str], keys: Keys) -> None:
    """Note an endpoint of the environment that cannot be used. The carriers read it themselves: a profile may ignore
    it.
    """
    found = endpoint_in(environ)
    if found is None:
        return
    name, text = found
    document = keys.element.document.literal(name, keys.element.document.folder)
    try:
        url(Element.of_text(text, Place(name), document))
    except Refused as refused:
        document.note(refused)


def _health(keys: Keys) -> Health:
    found = Health(functions=keys.take("functions", boolean, Health().functions))
    keys.close()
    return found


def _log(keys: Keys) -> Log:
    usual = Log()
    found = Log(
        level=keys.take("level", choice("debug", "info", "warning", "error"), usual.level),
        format=keys.take("format", choice("auto", "console", "json"), usual.format),
        access=keys.take("access", boolean, usual.access),
    )
    keys.close()
    return found


# -- between sections --------------------------------------------------------------------------------------------------


def _note_shared_addresses(keys: Keys, config: Config) -> None:
    """Two servers cannot have one port; 0 is any free one."""
    taken: dict[Address, str] = {listener.address: "listen" for listener in config.listen}
    for name, port in (("admin", config.admin), ("emulator", config.emulator)):
        if port is None or isinstance(port, Url) or port.address.port == 0:
            continue
        found = port.address
        if name == "emulator" and not config.functions:
            continue
        if found in taken:
            element = keys.elements.get(name)
            place = element.place if element else keys.element.place.key(name, None)
            message = f"{found} is taken by {taken[found]}"
            keys.element.document.problems.append(Problem.at(place, message))
        taken[found] = name


_EVERYBODY = 0o002
"""The permission that connecting to a Unix socket takes (unix(7)), for all users."""


def _warnings(place: Place, config: Config, services: Mapping[str, Element]) -> list[str]:
    warnings = []
    if not services:
        warnings.append(f"{place.key('services', None)}: none, so every call is UNIMPLEMENTED")
    if config.functions and isinstance(config.emulator, Url):
        what = f"not run, because emulator names one that runs already: {config.emulator}"
        warnings.append(f"{place.key('functions', None)}: {what}")
    for listener in config.listen:
        if isinstance(listener.address, UnixAddress) and listener.mode & _EVERYBODY:
            what = f"every user of this machine may connect to {listener.address} (mode {listener.mode:04o})"
            warnings.append(f"{place.key('listen', None)}: {what}")
    return warnings
