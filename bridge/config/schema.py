"""The configuration as checked values: what the rest of the bridge is built from.

Every key of the file is a field, with its default. Limits are the very values that the rest of the bridge reads.
Durations are seconds, sizes bytes, percentages fractions; paths are absolute or relative to the working directory; None
is the file's `null`. Nothing here can be wrong: `load` has checked it. Values that may be secrets (`headers`, `env`)
stay out of `repr`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal, TypeAlias

from bridge.aws.arn import FunctionName
from bridge.config.problems import Place
from bridge.http2.interface import EngineLimits
from bridge.rpc.limits import (
    GRACE,
    MIB,
    ConnectionLimits,
    Limits,
    MaxConnections,
    PoolLimits,
    RetryPolicy,
)
from bridge.rpc.url import Url

KIB = 1 << 10

SOCKET_MODE = 0o660
"""Who may connect to a Unix socket if nothing is said: the bridge's user and group."""

PayloadName: TypeAlias = Literal["grpc-web", "grpc", "protobuf", "json"]
EventShape: TypeAlias = Literal["http-v2", "http-v1", "alb", "envoy", "raw"]
InvokeMode: TypeAlias = Literal["buffered", "response_stream"]


# -- addresses ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TcpAddress:
    host: str
    """A name or an IP address; IPv6 without brackets."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address: TypeAlias = TcpAddress | UnixAddress


# -- targets -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LambdaTargetSpec:
    """A function on AWS: `arn:…` or `function:NAME[:QUALIFIER]`."""

    function: FunctionName

    def __str__(self) -> str:
        return self.function.arn or f"function:{self.function}"


@dataclass(frozen=True, slots=True)
class HttpTargetSpec:
    """A gRPC-Web or HTTP server: function URL, API Gateway, anything. Calls go to `url` + `/Service/Method`."""

    url: Url

    def __str__(self) -> str:
        return str(self.url)


@dataclass(frozen=True, slots=True)
class GrpcTargetSpec:
    """A native gRPC server."""

    address: Address
    tls: bool = False

    def __str__(self) -> str:
        if isinstance(self.address, UnixAddress):
            return str(self.address)
        return f"{'grpcs' if self.tls else 'grpc'}://{self.address}"


@dataclass(frozen=True, slots=True)
class LocalTarget:
    """A function of the local Lambda."""

    name: str

    def __str__(self) -> str:
        return f"local:{self.name}"


Target: TypeAlias = LambdaTargetSpec | HttpTargetSpec | GrpcTargetSpec | LocalTarget


@dataclass(frozen=True, slots=True)
class Role:
    """A role to assume."""

    arn: str
    external_id: str | None = None
    session_name: str | None = None


@dataclass(frozen=True, slots=True)
class TargetTls:
    """How a TLS target is verified and what we show it."""

    ca: Path | None = None
    """None: the system's authorities."""
    cert: Path | None = None
    key: Path | None = None
    server_name: str | None = None
    """The name that the certificate must have. None means the target's host."""


@dataclass(frozen=True, slots=True)
class IamAuth:
    """Requests are signed (SigV4) for this service and region."""

    service: str
    region: str


@dataclass(frozen=True, slots=True)
class DescriptorsPath:
    """What `descriptors` names: a FileDescriptorSet, or a folder of .proto files."""

    path: Path
    place: Place = field(compare=False)
    """Where it is written, for messages about what is in it."""

    @property
    def is_default(self) -> bool:
        """Whether it comes from `defaults`, so that it need not describe every service."""
        return self.place.key_path.startswith("defaults")


@dataclass(frozen=True, slots=True)
class JsonOptions:
    names: Literal["json", "proto"] = "json"
    """lowerCamelCase, or as the .proto has them."""
    defaults: bool = True
    """Fields that hold their default are written too."""


@dataclass(frozen=True, slots=True)
class TargetShare:
    """One target of a services entry, with how to speak to it. Keys without effect on the target hold their default."""

    target: Target
    weight: float = 1.0
    payload: PayloadName = "grpc-web"
    event: EventShape = "http-v2"
    invoke_mode: InvokeMode = "buffered"
    descriptors: DescriptorsPath | None = None
    json: JsonOptions = JsonOptions()
    role_arn: Role | None = None
    """Instead of `aws.role_arn`."""
    endpoint_url: Url | None = None
    """Instead of `aws.endpoint_url`."""
    quirks: Literal["rie"] | None = None
    tls: TargetTls | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Lower-case names; the values may be secrets."""
    auth: IamAuth | None = None


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


@dataclass(frozen=True, slots=True)
class Defaults:
    """`defaults`, as far as it holds for calls that no services entry matches; the rest is in every leg."""

    timeout: float | None = None
    """The upper bound put on calls."""
    limits: Limits = field(default_factory=Limits)
    max_concurrency: int = 1000
    """Calls in flight, for each target and process."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    compression: Literal["pass", "identity"] = "pass"


@dataclass(frozen=True, slots=True)
class Service:
    """One entry of `services`, with what it inherits."""

    key: str
    """As written."""
    match: Match
    legs: tuple[TargetShare, ...] = ()
    """One, or those of `split`; none: the methods are UNIMPLEMENTED."""
    timeout: float | None = None
    limits: Limits = field(default_factory=Limits)
    max_concurrency: int = 1000
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    compression: Literal["pass", "identity"] = "pass"

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
class FunctionConfig:
    """One entry of `functions:`: what the local Lambda runs under this name."""

    name: str
    code: Path
    """The function's folder: LAMBDA_TASK_ROOT, working directory, first on the Python path."""
    handler: str | None = None
    """`module.attribute` of a Python handler; this or `command`."""
    command: tuple[str, ...] | None = None
    """Any program that speaks the Runtime API."""
    python: Path | None = None
    """The interpreter for `handler`; None: the bridge's own."""
    runtime: Literal["lambda_fn", "awslambdaric"] = "lambda_fn"
    timeout: float = 3.0
    """Seconds an invocation may take."""
    memory: int = 128 * MIB
    concurrency: int = 10
    """Instances at most; beyond it invocations are throttled."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    reload: bool = False
    """Restart instances when a file under `code` changes."""
    url: FunctionUrl | None = None


# -- the bridge itself -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files of a listener."""

    cert: Path
    key: Path
    client_ca: Path | None = None
    """Clients must show a certificate from this authority."""


@dataclass(frozen=True, slots=True)
class Listener:
    address: Address
    tls: TlsFiles | None = None
    mode: int = SOCKET_MODE
    """The permissions of a Unix socket."""


@dataclass(frozen=True, slots=True)
class Admin:
    """The admin port."""

    address: TcpAddress = TcpAddress("127.0.0.1", 9901)
    hosts: tuple[str, ...] = ()
    """Host names under which it answers, besides addresses, localhost and names without a dot; `*.NAME`: all below
    NAME.
    """


@dataclass(frozen=True, slots=True)
class Emulator:
    """Where the local Lambda listens."""

    address: TcpAddress = TcpAddress("127.0.0.1", 9001)
    hosts: tuple[str, ...] = ()
    """As for `Admin`; also the suffixes of its functions' URLs."""


@dataclass(frozen=True, slots=True)
class Http2:
    engine: Literal["native", "h2"] = "native"
    limits: EngineLimits = field(default_factory=EngineLimits)
    """`max_concurrent_streams`, `max_header_list`, `max_metadata` and `keepalive.min_client_interval`."""
    times: ConnectionLimits = field(default_factory=ConnectionLimits)
    """`keepalive`, `max_connection_age`, `idle_timeout` and `stream_idle`."""


@dataclass(frozen=True, slots=True)
class Aws:
    region: str | None = None
    profile: str | None = None
    role_arn: Role | None = None
    endpoint_url: Url | None = None
    """Lambda's. None: as the environment and the profile say, else AWS's own."""
    pool: PoolLimits = field(default_factory=PoolLimits)
    """`idle_connections` and `idle_timeout`."""


@dataclass(frozen=True, slots=True)
class Health:
    functions: bool = False


@dataclass(frozen=True, slots=True)
class Log:
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"
    access: bool = True


@dataclass(frozen=True, slots=True)
class Config:
    listen: tuple[Listener, ...] = (Listener(TcpAddress("127.0.0.1", 50051)),)
    admin: Admin | None = Admin()
    emulator: Emulator | Url = Emulator()
    """The local Lambda; a URL: where one already runs."""
    workers: int = 1
    """Processes; 0: one for each core that the cgroup allows."""
    http2: Http2 = Http2()
    max_connections: MaxConnections = field(default_factory=MaxConnections)
    drain: float = GRACE
    drain_delay: float = 0.0
    buffers: int = 512 * MIB
    """Bytes that the calls of one process gather at most."""
    aws: Aws = Aws()
    defaults: Defaults = Defaults()
    services: Mapping[str, Service] = field(default_factory=dict)
    """By key, in the order of the file."""
    functions: Mapping[str, FunctionConfig] = field(default_factory=dict)
    reflection: bool = True
    health: Health = Health()
    log: Log = Log()
    warnings: tuple[str, ...] = ()
    """What an operator should know although it is no error; each names its place."""
    filled: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    """What `${…}` has brought in from the environment: no message to a client shows it."""
    secrets: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    """Those of them that stand in headers and the like: the log does not show them either."""
