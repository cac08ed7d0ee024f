"""The configuration as checked values: what the rest of the bridge is built from.

Every key of the file is a field, with its default. Its annotation says how it is read (`bridge/config/reading.py`).
Limits are the very values that the rest of the bridge reads. Durations are seconds, sizes bytes, percentages fractions;
paths are absolute or relative to the working directory; None is the file's `null`. Nothing here can be wrong: `load`
has checked it. Values that may be secrets (`headers`, `env`) stay out of `repr`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

from bridge.config import functions
from bridge.config.durable import Durable
from bridge.config.formats import EVENT_NAMES, PAYLOADS
from bridge.config.headers import headers
from bridge.config.iam import IamAuth, auth
from bridge.config.problems import Place, Problem
from bridge.config.reading import ByHand, FieldReaders, Key, NullableFields, Trait, mapping
from bridge.config.target import LONGEST_RUN, Can, TargetKind
from bridge.config.tenant import TenantSource, tenant_source
from bridge.config.units import format_duration
from bridge.config.values import (
    DescriptorsPath,
    address,
    boolean,
    choice,
    connect_to,
    descriptors_path,
    duration,
    external_id,
    file,
    folder,
    host_names,
    integer,
    optional,
    percentage,
    profile,
    reachable_address,
    region,
    role_arn,
    server_name,
    session_name,
    shape_of,
    shaped,
    size,
    socket_mode,
    tcp_address,
    throttled_as,
    url,
)
from bridge.http2.interface import EngineLimits
from bridge.rpc.address import Address, TcpAddress
from bridge.rpc.limits import GRACE, MIB, ConnectionLimits, Limits, MaxConnections, PoolLimits, QueueLimits, RetryPolicy
from bridge.rpc.url import ConnectTo, Url

if TYPE_CHECKING:
    from bridge.config.element import Element

KIB = 1 << 10
GIB = 1 << 30
TIB = 1 << 40

SOCKET_MODE = 0o660
"""Who may connect to a Unix socket if nothing is said: the bridge's user and group."""

_AN_INSTANT = 0.001
"""Seconds: the least of durations that may not be zero."""

_LARGEST_MESSAGE = (1 << 32) - 1
"""Bytes: the length in a message's prefix has 32 bits (gRPC PROTOCOL-HTTP2, "Message-Length")."""

LOOPBACK = "127.0.0.1"
"""Where debuggers listen: whoever reaches one runs code of their own as this user."""

_ADMIN_ADDRESS = TcpAddress("127.0.0.1", 9901)
_EMULATOR_ADDRESS = TcpAddress("127.0.0.1", 9001)

InvokeMode: TypeAlias = Literal["buffered", "response_stream"]


class Inherited(Trait, Enum):
    """Whether a method's entry takes a key from its service's entry. Without a target of its own it takes all keys."""

    ALWAYS = "with a target of its own, too"


class OnReload(Trait, Enum):
    """What a reload does with a key. Without this trait it applies the key to calls that begin after it."""

    NEEDS_RESTART = "the process took it when it began, so it stays"


# -- targets -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Role:
    """A role to assume."""

    text_is: ClassVar = "arn"

    arn: Annotated[str, role_arn]
    external_id: Annotated[str | None, optional(external_id)] = None
    session_name: Annotated[str | None, optional(session_name)] = None


@dataclass(frozen=True, slots=True)
class TargetTls:
    """How a TLS target is verified and what we show it."""

    ca: Annotated[Path | None, optional(file)] = None
    """None: the system's authorities."""
    cert: Annotated[Path | None, optional(file)] = None
    key: Annotated[Path | None, optional(file)] = None
    server_name: Annotated[str | None, optional(server_name)] = None
    """The name that the certificate must have. None means the target's host."""

    def misfits(self, written: Collection[str]) -> Iterator[tuple[str, str]]:
        if ("cert" in written) != ("key" in written):
            yield "", "cert and key need each other"


@dataclass(frozen=True, slots=True)
class JsonOptions:
    names: Literal["json", "proto"] = "json"
    """lowerCamelCase, or as the .proto has them."""
    defaults: bool = True
    """FieldReaders that hold their default are written too."""


@dataclass(frozen=True, slots=True)
class Duplex:
    """Whether and how a function takes calls in full duplex: it is invoked to connect to the bridge."""

    use: Literal["auto", "always", "never"] = "auto"
    """`auto`: calls whose client streams, if the function knows how to connect."""
    calls: Annotated[int, integer(1, 1000)] = 10
    """Calls that one instance takes at once."""
    idle: Annotated[float, duration(0.1)] = 5.0
    """Seconds that an instance stays connected without a call."""
    attach: Annotated[float, duration(0.1, LONGEST_RUN)] = 30.0
    """Seconds from the invocation to the connection."""


@dataclass(frozen=True, slots=True)
class TargetShare:
    """One target of a services entry, with how to speak to it. Keys without effect on the target hold their default."""

    target: TargetKind
    weight: float = 1.0
    place: Place | None = field(default=None, compare=False, repr=False)
    """Where the target is written."""
    payload: Annotated[str, choice(*PAYLOADS), Can.TAKE_BODIES] = "grpc-web"
    event: Annotated[str, choice(*EVENT_NAMES), Can.TAKE_EVENTS] = "http-v2"
    invoke_mode: Annotated[InvokeMode, Can.TAKE_EVENTS] = "buffered"
    descriptors: Annotated[DescriptorsPath | None, optional(descriptors_path), Inherited.ALWAYS] = None
    json: Annotated[JsonOptions, Can.TAKE_BODIES] = JsonOptions()
    role_arn: Annotated[Role | None, Can.BE_AWS] = None
    """Instead of `aws.role_arn`."""
    endpoint_url: Annotated[Url | None, optional(url), Can.BE_AWS] = None
    """Instead of `aws.endpoint_url`."""
    quirks: Annotated[Literal["rie"] | None, Can.BE_AWS] = None
    tls: Annotated[TargetTls | None, Can.BE_VERIFIED] = None
    headers: Annotated[Mapping[str, str], headers, Can.TAKE_HEADERS] = field(default_factory=dict, repr=False)
    """Lower-case names; the values may be secrets."""
    auth: Annotated[IamAuth | None, auth, Can.CHECK_SIGNATURES] = None
    connect_to: Annotated[ConnectTo | None, optional(connect_to), Can.BE_REACHED_BY_NAME] = None
    """Where connections lead. None: to the target's own host."""
    duplex: Annotated[Duplex, Can.TAKE_EVENTS] = Duplex()
    durable: Annotated[Durable | None, Can.BE_DURABLE] = None
    """Which calls are durable executions. None: no call is."""
    tenant: Annotated[TenantSource | None, optional(tenant_source), Can.SERVE_TENANTS] = None
    """Where the tenant of a call comes from. None: the function has no tenants."""

    @property
    def may_connect(self) -> bool:
        """Whether the target is a function that may take calls in full duplex."""
        return self.has_duplex_form and self.duplex.use != "never" and self.durable is None

    @property
    def has_duplex_form(self) -> bool:
        """Whether calls in full duplex are what this function expects."""
        return Can.TAKE_EVENTS in self.target.can and self.payload == "grpc-web" and self.quirks is None


# -- services ----------------------------------------------------------------------------------------------------------


class MatchKind(Enum):
    """What a services key matches, the most specific first."""

    METHOD = "method"
    SERVICE = "service"
    PREFIX = "prefix"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Match:
    """A services key, taken apart."""

    kind: MatchKind
    service: str = ""
    """The whole name; of a prefix what stands before `.*`; empty for `*`."""
    method: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What is the same for all targets of an entry: `defaults`, as far as it holds for calls that no entry matches."""

    timeout: Annotated[float | None, optional(duration(_AN_INSTANT)), Inherited.ALWAYS] = None
    """The upper bound put on calls."""
    limits: Annotated[
        Limits,
        FieldReaders(
            {
                "max_request": size(1, _LARGEST_MESSAGE),
                "max_buffered": size(1, TIB),
                "max_response": optional(size(1, _LARGEST_MESSAGE)),
                "max_trailers": size(256, MIB),
                "half_close": Key(optional(duration(_AN_INSTANT)), traits=(Can.TAKE_BODIES,)),
                "throttled_as": throttled_as,
            }
        ),
        Inherited.ALWAYS,
    ] = field(default_factory=Limits)
    max_concurrency: Annotated[int, integer(1, 1_000_000), Inherited.ALWAYS] = 1000
    """Calls in flight, for each target and process."""
    queue: Annotated[
        QueueLimits | None,
        NullableFields({"calls": integer(1, 1_000_000), "wait": duration(_AN_INSTANT)}, under="queue"),
        Inherited.ALWAYS,
    ] = field(default_factory=QueueLimits)
    """How calls wait that the target cannot take yet. None: they are refused at once."""
    retry: Annotated[
        RetryPolicy,
        FieldReaders(
            {
                "attempts": integer(1, 100),
                "backoff": duration(0),
                "max_backoff": duration(0),
                "budget": percentage,
            },
            under="retry",
        ),
        Inherited.ALWAYS,
    ] = field(default_factory=RetryPolicy)
    compression: Literal["pass", "identity"] = "pass"

    def misfits(self, written: Collection[str]) -> Iterator[tuple[str, str]]:
        if self.retry.backoff > self.retry.max_backoff:
            which = "retry.backoff" if "retry.backoff" in written else "retry.max_backoff"
            yield which, "backoff is longer than max_backoff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service(Defaults):
    """One entry of `services`, with what it inherits."""

    key: str
    """As written."""
    match: Match
    legs: tuple[TargetShare, ...] = ()
    """One, or those of `split`; none: the methods are UNIMPLEMENTED."""

    @property
    def weights(self) -> tuple[float, ...]:
        return tuple(leg.weight for leg in self.legs)


# -- functions of the local Lambda -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FunctionUrl:
    """`url:` of a local function."""

    auth: Literal["none", "iam"] = "none"
    invoke_mode: InvokeMode = "buffered"


@dataclass(frozen=True, slots=True)
class WebFunctionConfig:
    """`web:` of a local function: it is a Web Function."""

    command: Annotated[tuple[str, ...], functions.command]
    """An HTTP/1.1 server that listens on AWS_LAMBDA_HTTP_ENDPOINT."""

    keys: ClassVar = frozenset(
        {
            "code",
            "web",
            "timeout",
            "concurrency",
            "instance_concurrency",
            "env",
            "reload",
            "package.include",
            "package.exclude",
        }
    )
    """The keys of a function that work on a Web Function."""
    timeouts: ClassVar = (3.0, 900.0)
    """Seconds that a request may take, at least and at most (botocore, ServiceConfig of lambda-web)."""
    most_at_once: ClassVar = 128
    """The largest `instance_concurrency` (botocore, ServiceConfig of lambda-web)."""
    usual: ClassVar = MappingProxyType({"timeout": 30.0, "instance_concurrency": 64, "memory": 2048 * MIB})
    """What AWS sets unless something else is said. The memory cannot be chosen."""


@dataclass(frozen=True, slots=True)
class Reload:
    """Which files restart a function's instances when they change. Patterns are those of `.gitignore`."""

    include: Annotated[tuple[str, ...], functions.file_patterns] = ()
    """Only these files count, ignored ones too. Empty: all that `.gitignore` leaves, without logs."""
    exclude: Annotated[tuple[str, ...], functions.file_patterns] = ()


def _reload(element: Element) -> Reload | None:
    """Read `true` as all source files, `false` as none."""
    if element.is_mapping:
        return mapping(Reload)(element)
    return Reload() if boolean(element) else None


shaped(_reload, lambda: {"anyOf": [shape_of(boolean), shape_of(mapping(Reload))]})


@dataclass(frozen=True, slots=True)
class PackageFiles:
    """Which files of `code` the command `package` packs. Patterns are those of `.gitignore`."""

    include: Annotated[tuple[str, ...], functions.file_patterns] = ()
    """Files that are packed although `.gitignore` ignores them."""
    exclude: Annotated[tuple[str, ...], functions.file_patterns] = ()
    """Files that are not packed. It goes before `include`."""


@dataclass(frozen=True, slots=True)
class Debug:
    """A debugger for a function: debugpy in Python, the inspector in Node.js."""

    text_is: ClassVar = "port"

    port: Annotated[int, integer(1, 65_535)]
    """Of LOOPBACK: where an editor attaches."""
    wait: bool = False
    """Whether the function's code begins only when an editor has attached."""


@dataclass(frozen=True, slots=True)
class FunctionConfig:
    """One entry of `functions:`: what the local Lambda runs under this name."""

    name: str
    code: Annotated[Path, folder]
    """The function's folder: LAMBDA_TASK_ROOT, working directory, first on the Python path."""
    handler: Annotated[str | None, optional(functions.handler)] = None
    """`module.attribute` of a handler in Python or JavaScript. With `command`: any text, which the program reads from
    the variable _HANDLER.
    """
    command: Annotated[tuple[str, ...] | None, optional(functions.command)] = None
    """Any program that speaks the Runtime API. Without it the handler has a runtime of ours or of AWS."""
    web: WebFunctionConfig | None = None
    python: Annotated[Path | None, optional(functions.program)] = None
    """The interpreter for `handler`; None: the bridge's own."""
    runtime: Literal["lambda_fn", "awslambdaric", "node"] | None = None
    """What calls the handler. None: `node` if the handler's file is in JavaScript, else `lambda_fn`."""
    timeout: Annotated[float, duration(_AN_INSTANT, LONGEST_RUN)] = 3.0
    """Seconds an invocation may take."""
    memory: Annotated[int, size(MIB, 10_240 * MIB)] = 128 * MIB
    concurrency: Annotated[int, integer(1, 1000)] = 10
    """Instances at most; beyond it invocations are throttled."""
    instance_concurrency: Annotated[int, integer(1, 1600)] = 1
    """Invocations that one instance gets at once, as on Lambda Managed Instances."""
    tenants: bool = False
    """Whether each tenant has instances of its own, as with AWS's tenant isolation."""
    rate: Annotated[int | None, optional(integer(1, 1_000_000))] = None
    """Invocations that may begin in a second; beyond it they are throttled. None: no limit."""
    env: Annotated[Mapping[str, str], functions.variables] = field(default_factory=dict, repr=False)
    reload: Annotated[Reload | None, _reload] = None
    """Restart instances when a source file under `code` changes."""
    url: FunctionUrl | None = None
    package: PackageFiles = PackageFiles()
    debug: Debug | None = None
    """Starts the function under a debugger, in one instance and without time limits."""
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)
    """Where each key is written, by dotted name; under the empty name, the function."""

    def misfits(self, written: Collection[str]) -> Iterator[tuple[str, str]]:
        if "web" in written:
            yield from () if self.web is None else self._web_misfits(self.web, written)
        elif "command" in written:
            yield from ((key, "has no effect on a command") for key in ("python", "runtime") if key in written)
            if self.debug is not None:
                yield "debug", f"starts handlers in Python and JavaScript only; {_DEBUG_COMMAND}"
        elif "handler" not in written:
            yield "", 'needs "handler", "command" or "web": nothing says what runs'
        elif self.handler is not None and not functions.is_handler(self.handler):
            yield "handler", f"expected {functions.HANDLER}"
        elif "python" in written and self.runtime == "node":
            yield "python", "has no effect on runtime: node"
        if self.tenants and self.url is not None:
            yield (
                "tenants",
                "a function with tenants has no URL: AWS refuses it, because callers of URLs name no tenant",
            )

        if self.tenants and self.debug is not None:
            yield "debug", "a function that is debugged has one instance, and each tenant needs one of its own"

    def _web_misfits(self, web: WebFunctionConfig, written: Collection[str]) -> Iterator[tuple[str, str]]:
        yield from ((key, _without_effect_on_web(key)) for key in written if key not in web.keys)
        least, most = web.timeouts
        if not least <= self.timeout <= most:
            yield "timeout", f"a request to a Web Function may take {format_duration(least)} to {format_duration(most)}"
        if self.instance_concurrency > web.most_at_once:
            yield "instance_concurrency", f"a Web Function serves at most {web.most_at_once} requests at once"


_DEBUG_COMMAND = "for another program, put its debugger into the command"


def _without_effect_on_web(key: str) -> str:
    return f"has no effect on a Web Function{f': {_DEBUG_COMMAND}' if key == 'debug' else ''}"


# -- the bridge itself -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files of a listener."""

    cert: Annotated[Path, file]
    key: Annotated[Path, file]
    client_ca: Annotated[Path | None, optional(file)] = None
    """Clients must show a certificate from this authority."""


@dataclass(frozen=True, slots=True)
class Listener:
    """An address where the bridge takes calls."""

    text_is: ClassVar = "address"

    address: Annotated[Address, address]
    tls: TlsFiles | None = None
    mode: Annotated[int, socket_mode] = SOCKET_MODE
    """The permissions of a Unix socket."""

    @property
    def is_exposed(self) -> bool:
        """Whether clients on other hosts reach it, and no certificate is asked of them."""
        if not isinstance(self.address, TcpAddress):
            return False
        if self.tls is not None and self.tls.client_ca is not None:
            return False
        return not self.address.is_loopback

    def misfits(self, written: Collection[str]) -> Iterator[tuple[str, str]]:
        if "mode" in written and isinstance(self.address, TcpAddress):
            yield "mode", "has no effect: only a unix: address has a mode"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its key, in PEM files."""

    cert: Annotated[Path, file]
    key: Annotated[Path, file]


@dataclass(frozen=True, slots=True)
class DuplexListener:
    """Where functions connect for calls in full duplex. Worker N takes the ports that are N higher."""

    listen: Annotated[TcpAddress, tcp_address]
    advertise: Annotated[TcpAddress | None, optional(reachable_address)] = None
    """The address that functions dial; None: `listen`."""
    tls: KeyPair | None = None
    """None: the bridge makes a certificate of its own, and functions accept that one only."""

    @property
    def dialled(self) -> TcpAddress:
        """The address that functions dial."""
        return self.advertise or self.listen

    def misfits(self, written: Collection[str]) -> Iterator[tuple[str, str]]:
        if "advertise" in written:
            return
        if self.listen.host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
            yield "", 'needs "advertise": the address at which functions reach this process'
        if self.listen.port == 0:
            yield "", "listen needs a port, because functions must know it"


@dataclass(frozen=True, slots=True)
class Admin:
    """The admin port."""

    text_is: ClassVar = "address"

    address: Annotated[TcpAddress, tcp_address] = _ADMIN_ADDRESS
    hosts: Annotated[tuple[str, ...], host_names] = ()
    """More Host names to answer to. Addresses, localhost and names without a dot always are. `*.NAME`: all below."""
    console: Annotated[bool | None, optional(boolean)] = None
    """Whether the status page has the call console. None: unless a listener says who may call."""


@dataclass(frozen=True, slots=True)
class Emulator:
    """Where the local Lambda listens."""

    address: Annotated[TcpAddress, tcp_address] = _EMULATOR_ADDRESS
    hosts: Annotated[tuple[str, ...], host_names] = ()
    """As for `Admin`; also the suffixes of its functions' URLs."""
    concurrency: Annotated[int | None, optional(integer(1, 100_000))] = None
    """Invocations of all functions at a time, as AWS limits those of an account."""


@dataclass(frozen=True, slots=True)
class Http2:
    engine: Literal["native", "h2"] = "native"
    limits: Annotated[
        EngineLimits,
        FieldReaders(
            {
                "max_concurrent_streams": integer(1, 1_000_000),
                "max_header_list": size(KIB, MIB),
                "max_metadata": integer(1, 10_000),
                "min_ping_interval": Key(duration(0), "keepalive.min_client_interval"),
            }
        ),
    ] = field(default_factory=EngineLimits)
    times: Annotated[
        ConnectionLimits,
        FieldReaders(
            {
                "keepalive_interval": Key(optional(duration(1)), "keepalive.interval"),
                "keepalive_timeout": Key(duration(_AN_INSTANT), "keepalive.timeout"),
                "max_age": Key(optional(duration(_AN_INSTANT)), "max_connection_age"),
                "idle": Key(optional(duration(_AN_INSTANT)), "idle_timeout"),
                "stream_idle": optional(duration(_AN_INSTANT)),
            }
        ),
    ] = field(default_factory=ConnectionLimits)


@dataclass(frozen=True, slots=True)
class Aws:
    region: Annotated[str | None, optional(region)] = None
    profile: Annotated[str | None, optional(profile)] = None
    role_arn: Role | None = None
    endpoint_url: Annotated[Url | None, optional(url)] = None
    """Lambda's. None: as the environment and the profile say, else AWS's own."""
    pool: Annotated[
        PoolLimits, FieldReaders({"idle_connections": integer(0, 100_000), "idle_timeout": duration(0)})
    ] = field(default_factory=PoolLimits)
    dual_stack: bool = False
    """Use AWS's hosts that have IPv6 addresses too. False: as the environment and the profile say."""
    fips: bool = False
    """Use AWS's hosts with FIPS 140 cryptography. False: as the environment and the profile say."""


@dataclass(frozen=True, slots=True)
class Health:
    functions: bool = False


@dataclass(frozen=True, slots=True)
class AccessLines:
    """Which calls have a line in the access log, besides those to functions."""

    health: bool = True
    reflection: bool = True


def _access_lines(element: Element) -> AccessLines | None:
    """Return which lines there are. `false` is None: no lines. `true` is all of them."""
    if element.is_mapping:
        return mapping(AccessLines)(element)
    return AccessLines() if boolean(element) else None


shaped(_access_lines, lambda: {"anyOf": [shape_of(boolean), shape_of(mapping(AccessLines))]})


@dataclass(frozen=True, slots=True)
class Log:
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"
    access: Annotated[AccessLines | None, _access_lines] = AccessLines()

    @property
    def shows_info(self) -> bool:
        """Whether lines of the level info are written."""
        return self.level in ("debug", "info")


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration, checked. Its fields are the keys of the file, and so are the defaults."""

    listen: Annotated[tuple[Listener, ...], ByHand(), OnReload.NEEDS_RESTART] = (
        Listener(TcpAddress("127.0.0.1", 50051)),
    )
    admin: Annotated[Admin | None, ByHand(), OnReload.NEEDS_RESTART] = Admin()
    emulator: Annotated[Emulator | Url, ByHand(), OnReload.NEEDS_RESTART] = Emulator()
    """The local Lambda; a URL: where one already runs."""
    duplex: Annotated[DuplexListener | None, OnReload.NEEDS_RESTART] = None
    """Where functions connect; None: no call goes in full duplex."""
    workers: Annotated[int, integer(0, 1024), OnReload.NEEDS_RESTART] = 1
    """Processes; 0: one for each core that the cgroup allows."""
    http2: Annotated[Http2, OnReload.NEEDS_RESTART] = Http2()
    max_connections: Annotated[
        MaxConnections,
        FieldReaders(
            {"total": integer(1, 1_000_000), "per_peer": optional(integer(1, 1_000_000))},
            under="max_connections",
        ),
        OnReload.NEEDS_RESTART,
    ] = field(default_factory=MaxConnections)
    drain: Annotated[float, duration(0), OnReload.NEEDS_RESTART] = GRACE
    drain_delay: Annotated[float, duration(0), OnReload.NEEDS_RESTART] = 0.0
    buffers: Annotated[int, size(MIB, TIB), OnReload.NEEDS_RESTART] = 512 * MIB
    """Bytes that the calls of one process gather at most."""
    aws: Aws = Aws()
    defaults: Annotated[Defaults, ByHand()] = Defaults()
    services: Annotated[Mapping[str, Service], ByHand()] = field(default_factory=dict)
    """By key, in the order of the file."""
    functions: Annotated[Mapping[str, FunctionConfig], ByHand()] = field(default_factory=dict)
    reflection: bool = True
    health: Health = Health()
    log: Log = Log()
    warnings: tuple[Problem, ...] = field(default=(), compare=False)
    """What an operator should know although it is no error."""
    filled: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    """What `${…}` has brought in from the environment: no message to a client shows it."""
    secrets: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    """Those of them that stand in headers and the like: the log does not show them either."""
    named_files: frozenset[Path] = field(default=frozenset(), repr=False, compare=False)
    """The files and folders that it names, without the folders of functions."""
