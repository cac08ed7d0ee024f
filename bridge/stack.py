"""From one configuration to what serves its calls: the layers in reading order, the targets, and what they hold open.

A reload builds a second stack and lets go of the first: calls that began under it end under it.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from bridge.aws import rie
from bridge.aws.arn import FunctionName
from bridge.carriers import assumed_role
from bridge.carriers.assumed_role import AssumeRole, Identities
from bridge.carriers.credentials import BotocoreSearch, SoughtCredentials, local_credentials
from bridge.carriers.http import HttpCarrier, Iam
from bridge.carriers.http_client import HttpClient
from bridge.carriers.lambda_invoke import LambdaInvoke
from bridge.carriers.lambda_stream import LambdaStream
from bridge.carriers.pool import PoolLimits
from bridge.carriers.rie_invoke import RieInvoke
from bridge.carriers.tls import client_context
from bridge.config.schema import (
    Aws,
    Config,
    GrpcTarget,
    HttpTarget,
    LambdaTarget,
    Leg,
    LocalTarget,
    Role,
    Service,
    TargetTls,
)
from bridge.proxy import route_table
from bridge.proxy.access_log import AccessLog
from bridge.proxy.admit import admit
from bridge.proxy.deadline import Deadlines, deadline
from bridge.proxy.grpc_target import GrpcTarget as NativeTarget
from bridge.proxy.http_target import HttpTarget as WebTarget
from bridge.proxy.lambda_target import LambdaTarget as InvokeTarget
from bridge.proxy.observe import observe
from bridge.proxy.own_call import exchange
from bridge.proxy.payload import EVENTS, Payload, payload_of
from bridge.proxy.raw_target import RawTarget
from bridge.proxy.rescue import rescue
from bridge.proxy.retry import RetryPolicy, retry
from bridge.proxy.route import route
from bridge.proxy.route_table import Entry
from bridge.proxy.stream_target import StreamTarget
from bridge.routing.router import Router
from bridge.rpc.call import Handler
from bridge.rpc.figures import BridgeFigures, TargetFigures
from bridge.services.asked_target import TIMEOUT, Ask, AskedTarget, first_implemented
from bridge.services.builtin import REFLECTION, REFLECTION_ALPHA
from bridge.services.conflicts import conflicts
from bridge.services.descriptors import Descriptors, load_descriptors
from bridge.services.sources import Source, Sources
from bridge.services.transcode import Transcoder

if TYPE_CHECKING:
    from bridge.carriers.grpc import GrpcCarrier

LONGEST_INVOKE = 910.0
"""Seconds after which a Lambda call without deadline and timeout ends: a function runs 900 at most."""

_clock = time.monotonic
_wall_clock = time.time  # noqa: TID251 - AWS wants the time of day

_Carrier = TypeVar("_Carrier", LambdaInvoke, LambdaStream)


def front(*, log: AccessLog, figures: BridgeFigures) -> Handler:
    """What every call passes through, the outermost first; its route's own layers follow."""
    return observe(          # counts and logs it once, however it ends
        rescue(              # turns whatever goes wrong into its status
            route,           # hands it to its route: a built-in service, or the layers of a target
            figures=figures,
        ),
        log=log,
        clock=_clock,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shared:
    """What outlives a reload."""

    figures: BridgeFigures
    targets: dict[tuple[str, str], TargetFigures]
    """By services key and target."""
    deadlines: Deadlines
    environ: Mapping[str, str]


class Asked(Protocol):
    """A carrier that can tell whether its target would answer."""

    async def dry_run(self) -> None:
        """Ask without a call. Raises RpcError; the caller bounds the time."""
        ...


@dataclass(frozen=True, slots=True)
class Invocation:
    """What a services entry leads to."""

    key: str
    """The entry's."""
    carrier: Asked
    is_local: bool


class Stack:
    """Belongs to the running loop. `open` makes one."""

    def __init__(self, config: Config, shared: Shared, *, local_endpoint: str) -> None:
        """`local_endpoint`: the URL of the local Lambda, or empty. Raises ValueError for proxies that cannot be used."""
        self.config = config
        self._shared = shared
        self._local_endpoint = local_endpoint
        self._client = HttpClient(
            environment=shared.environ,
            limits=PoolLimits(
                idle_connections=config.aws.idle_connections, idle_timeout=config.aws.idle_timeout
            ),
        )
        self.credentials = _identities(config, shared.environ)
        """None: no target needs any."""
        self.invocations: list[Invocation] = []
        self._native: list[GrpcCarrier] = []
        self._described: Mapping[str, Descriptors] = {}
        """By path."""
        self.sources = Sources({})
        self.router: Router[Entry] = Router({})

    async def open(self) -> None:
        """Read descriptors, build the targets, begin to seek credentials. Raises BadDescriptors, OSError for TLS files."""
        self._described = await asyncio.to_thread(_load_all_descriptors, self.config)
        entries: dict[str, Entry | None] = {}
        sources: dict[str, Source | None] = {}
        for key, service in self.config.services.items():
            entries[key], sources[key] = self._build(service)
        self.router = Router(entries)
        self.sources = Sources(sources)
        if self.credentials is not None:
            self.credentials.start()

    async def retire(self) -> None:
        """Seek and ask nothing more, then let go of connections when the last call must have ended."""
        await self._stop_seeking()
        for carrier in self._native:
            carrier.retire()
        await asyncio.sleep(LONGEST_INVOKE)
        await self._client.close()

    async def close(self) -> None:
        """Let go of everything; calls still under way end ConnectionLost."""
        await self._stop_seeking()
        for carrier in self._native:
            await carrier.close()
        await self._client.close()

    async def _stop_seeking(self) -> None:
        self.sources.close()
        if self.credentials is not None:
            await self.credentials.close()

    def _build(self, service: Service) -> tuple[Entry | None, Source | None]:
        if not service.legs:
            return None, None
        legs, asks = [], []
        for leg in service.legs:
            figures = self._figures_of(service, leg)
            target = self._target(service, leg, figures)
            longest = LONGEST_INVOKE if _is_lambda(leg) else None
            layers = self._layers(service, target, figures)
            legs.append(route_table.Leg(layers, leg.weight, timeout=longest))
            asks.append((leg.weight, leg, target))
        entry = Entry(service.key, legs, limits=service.limits, timeout=service.timeout)
        _, heaviest, target = max(asks, key=lambda ask: ask[0])
        asked = AskedTarget(
            first_implemented(*(_ask(target, name) for name in (REFLECTION, REFLECTION_ALPHA))),
            name=str(heaviest.target),
            now=_clock,
        )
        return entry, Source(self._descriptors_of(service), asked)

    def _descriptors_of(self, service: Service) -> Descriptors | None:
        """Of the first leg that has any."""
        paths = (str(leg.descriptors) for leg in service.legs if leg.descriptors is not None)
        return next((self._described[path] for path in paths), None)

    def _figures_of(self, service: Service, leg: Leg) -> TargetFigures:
        """Kept over reloads, and counted for each entry and leg: `max_concurrency` is theirs."""
        name = str(leg.target)
        return self._shared.targets.setdefault((service.key, name), TargetFigures(name))

    def _target(self, service: Service, leg: Leg, figures: TargetFigures) -> Handler:
        if isinstance(leg.target, GrpcTarget):
            return self._native_target(service, leg, leg.target)
        if isinstance(leg.target, HttpTarget):
            return self._http_target(leg.target, service, leg, figures)
        is_whole = leg.event == "raw" or leg.quirks == "rie"  # the emulator has no streams
        if leg.invoke_mode == "response_stream" and not is_whole:
            return self._stream_target(service, leg, figures)
        carrier = self._rie(leg) if leg.quirks == "rie" else self._carrier(leg, LambdaInvoke)
        self._remember(service, leg, carrier)
        if leg.event == "raw":
            # Its reply is one value: streamed or not, it is taken whole.
            return RawTarget(carrier, transcode=self._transcoder(leg), clock=_clock).handle
        return InvokeTarget(
            carrier,
            figures=figures,
            clock=_clock,
            wall_clock=_wall_clock,
            compression=service.compression,
            payload=self._payload(leg),
            event=EVENTS[leg.event],
        ).handle

    def _payload(self, leg: Leg) -> Payload:
        """What bodies look like to this leg's target."""
        transcode = self._transcoder(leg) if leg.payload == "json" else None
        return payload_of(leg.payload, transcode)

    def _transcoder(self, leg: Leg) -> Transcoder:
        return Transcoder(
            self._described[str(leg.descriptors)],
            proto_names=leg.json.names == "proto",
            defaults=leg.json.defaults,
        )

    def _stream_target(self, service: Service, leg: Leg, figures: TargetFigures) -> Handler:
        carrier = self._carrier(leg, LambdaStream)
        self._remember(service, leg, carrier)
        return StreamTarget(
            carrier,
            figures=figures,
            clock=_clock,
            wall_clock=_wall_clock,
            compression=service.compression,
            payload=self._payload(leg),
            event=EVENTS[leg.event],
        ).handle

    def _http_target(
        self, target: HttpTarget, service: Service, leg: Leg, figures: TargetFigures
    ) -> Handler:
        """Raises OSError for TLS files that cannot be used."""
        iam = None
        if leg.auth is not None:
            assert self.credentials is not None
            credentials = self.credentials.of(self.config.aws.role_arn)
            iam = Iam(leg.auth.service, leg.auth.region, credentials, _wall_clock)
        tls = None if leg.tls is None else _tls_context(leg.tls)
        carrier = HttpCarrier(str(target.url), client=self._client, tls=tls, iam=iam)
        self.invocations.append(Invocation(service.key, carrier, is_local=False))
        return WebTarget(
            carrier,
            figures=figures,
            clock=_clock,
            wall_clock=_wall_clock,
            fields=leg.headers,
            is_signed=iam is not None,
            compression=service.compression,
            payload=self._payload(leg),
        ).handle

    def _remember(self, service: Service, leg: Leg, carrier: Asked) -> None:
        is_local = isinstance(leg.target, LocalTarget)
        self.invocations.append(Invocation(service.key, carrier, is_local))

    def _native_target(self, service: Service, leg: Leg, server: GrpcTarget) -> Handler:
        from bridge.carriers.grpc import GrpcCarrier

        carrier = GrpcCarrier(server, tls=leg.tls, limits=service.limits)
        self._native.append(carrier)
        self.invocations.append(Invocation(service.key, carrier, is_local=False))
        return NativeTarget(carrier, clock=_clock, headers=leg.headers).handle

    def _layers(self, service: Service, target: Handler, figures: TargetFigures) -> Handler:
        """What a call to this target passes through behind `front`, the outermost first."""
        policy = RetryPolicy(
            attempts=service.retry.attempts,
            backoff=service.retry.backoff,
            max_backoff=service.retry.max_backoff,
            budget=service.retry.budget,
        )
        return deadline(         # ends it at its deadline, gathering and waits included
            admit(               # refuses it while the target or the process is full
                retry(           # repeats it if it provably did not reach the function
                    target,      # codec and carrier
                    policy=policy, target=figures, clock=_clock,
                ),
                target=figures, max_concurrency=service.max_concurrency,
                process=self._shared.figures, buffers=self.config.buffers,
            ),
            deadlines=self._shared.deadlines, clock=_clock,
        )  # fmt: skip

    def _rie(self, leg: Leg) -> RieInvoke:
        """Invoke of AWS's local emulator; the SDKs' variables move it as they do Lambda."""
        assert isinstance(leg.target, LambdaTarget)
        environ = self._shared.environ
        configured = leg.endpoint_url or self.config.aws.endpoint_url
        named = environ.get("AWS_ENDPOINT_URL_LAMBDA") or environ.get("AWS_ENDPOINT_URL")
        return RieInvoke(
            FunctionName.parse(leg.target.function),
            client=self._client,
            endpoint_url=str(configured or named or rie.ENDPOINT),
        )

    def _carrier(self, leg: Leg, kind: type[_Carrier]) -> _Carrier:
        """The API that calls this leg's function."""
        match leg.target:
            case LocalTarget(name):
                return kind(
                    FunctionName.parse(name),
                    client=self._client,
                    credentials=local_credentials(),
                    endpoint_url=self._local_endpoint,
                )
            case LambdaTarget(function):
                assert self.credentials is not None
                endpoint = leg.endpoint_url or self.config.aws.endpoint_url
                return kind(
                    FunctionName.parse(function),
                    client=self._client,
                    credentials=self.credentials.of(leg.role_arn or self.config.aws.role_arn),
                    endpoint_url=None if endpoint is None else str(endpoint),
                )
            case _:
                raise AssertionError(f"{leg.target}: the configuration refuses this target")


def _is_lambda(leg: Leg) -> bool:
    return isinstance(leg.target, LambdaTarget | LocalTarget)


def _tls_context(files: TargetTls) -> ssl.SSLContext:
    return client_context(
        ca=files.ca, certificate=files.cert, key=files.key, server_name=files.server_name
    )


def _ask(target: Handler, service: str) -> Ask:
    """How to ask a target by the reflection service of this name, which the function itself implements."""

    async def ask(requests: list[bytes]) -> list[bytes]:
        path = f"/{service}/ServerReflectionInfo"
        return await exchange(target, path, requests, seconds=TIMEOUT, clock=_clock)

    return ask


def _identities(config: Config, environ: Mapping[str, str]) -> Identities | None:
    """Whom to be for the targets whose requests are signed; None: there are none."""
    legs = [leg for service in config.services.values() for leg in service.legs]
    signed = [leg for leg in legs if _is_signed(leg)]
    if not signed:
        return None
    aws: Aws = config.aws
    # botocore knows AWS_DEFAULT_REGION only; containers and every other SDK go by AWS_REGION.
    region = aws.region or environ.get("AWS_REGION")
    own = SoughtCredentials(BotocoreSearch(profile=aws.profile, region=region, environment=environ))
    roles: dict[Role, SoughtCredentials] = {}
    for leg in signed:
        role = leg.role_arn or aws.role_arn
        if role is not None and role not in roles:
            search = AssumeRole(role, base=own, region=_region_of(leg), profile=aws.profile)
            roles[role] = SoughtCredentials(search, none_yet=assumed_role.NONE_YET)
    return Identities(own, roles)


def _is_signed(leg: Leg) -> bool:
    """Whether AWS checks who calls: its emulator does not."""
    return (isinstance(leg.target, LambdaTarget) and leg.quirks is None) or leg.auth is not None


def _region_of(leg: Leg) -> str | None:
    if leg.auth is not None:
        return leg.auth.region
    return leg.target.region if isinstance(leg.target, LambdaTarget) else None


def _load_all_descriptors(config: Config) -> dict[str, Descriptors]:
    """By path: one is read once, however many entries name it. Raises BadDescriptors."""
    paths = {
        str(leg.descriptors): leg.descriptors
        for service in config.services.values()
        for leg in service.legs
        if leg.descriptors is not None
    }
    return {name: load_descriptors(path) for name, path in paths.items()}


def conflicts_of(config: Config) -> list[str]:
    """What the configured descriptors tell differently about one name. Raises BadDescriptors."""
    return conflicts(_load_all_descriptors(config).values())
