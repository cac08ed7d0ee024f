"""From one configuration to what serves its calls: the layers in reading order, the targets, and what they hold open.

A reload builds a second stack and lets go of the first: calls that began under it end under it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from bridge.aws.arn import FunctionName
from bridge.carriers.credentials import BotocoreSearch, SoughtCredentials, local_credentials
from bridge.carriers.http_client import HttpClient
from bridge.carriers.lambda_invoke import LambdaInvoke
from bridge.carriers.pool import PoolLimits
from bridge.config.schema import Aws, Config, LambdaTarget, Leg, LocalTarget, Service
from bridge.proxy import route_table
from bridge.proxy.access_log import AccessLog
from bridge.proxy.admit import admit
from bridge.proxy.deadline import Deadlines, deadline
from bridge.proxy.lambda_target import LambdaTarget as InvokeTarget
from bridge.proxy.observe import observe
from bridge.proxy.own_call import exchange
from bridge.proxy.rescue import rescue
from bridge.proxy.retry import RetryPolicy, retry
from bridge.proxy.route import route
from bridge.proxy.route_table import Entry
from bridge.routing.router import Router
from bridge.rpc.call import Handler
from bridge.rpc.figures import BridgeFigures, TargetFigures
from bridge.services.asked_target import TIMEOUT, Ask, AskedTarget, first_implemented
from bridge.services.builtin import REFLECTION, REFLECTION_ALPHA
from bridge.services.conflicts import conflicts
from bridge.services.descriptors import Descriptors, load_descriptors
from bridge.services.sources import Source, Sources

LONGEST_INVOKE = 910.0
"""Seconds after which a Lambda call without deadline and timeout ends: a function runs 900 at most."""

_clock = time.monotonic
_wall_clock = time.time  # noqa: TID251 - AWS wants the time of day


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


@dataclass(frozen=True, slots=True)
class Invocation:
    """A function that a services entry leads to."""

    key: str
    """The entry's."""
    carrier: LambdaInvoke
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
        self.credentials = _sought_credentials(config, shared.environ)
        """None: no target needs any."""
        self.invocations: list[Invocation] = []
        self.sources = Sources({})
        self.router: Router[Entry] = Router({})

    async def open(self) -> None:
        """Read descriptors, build the targets, begin to seek credentials. Raises BadDescriptors."""
        described = await asyncio.to_thread(_load_all_descriptors, self.config)
        entries: dict[str, Entry | None] = {}
        sources: dict[str, Source | None] = {}
        for key, service in self.config.services.items():
            entries[key], sources[key] = self._build(service, described)
        self.router = Router(entries)
        self.sources = Sources(sources)
        if self.credentials is not None:
            self.credentials.start()

    async def retire(self) -> None:
        """Seek and ask nothing more, then let go of connections when the last call must have ended."""
        await self._stop_seeking()
        await asyncio.sleep(LONGEST_INVOKE)
        await self._client.close()

    async def close(self) -> None:
        """Let go of everything; calls still under way end ConnectionLost."""
        await self._stop_seeking()
        await self._client.close()

    async def _stop_seeking(self) -> None:
        self.sources.close()
        if self.credentials is not None:
            await self.credentials.close()

    def _build(
        self, service: Service, described: Mapping[str, Descriptors]
    ) -> tuple[Entry | None, Source | None]:
        if not service.legs:
            return None, None
        legs, asks = [], []
        for leg in service.legs:
            figures = self._figures_of(service, leg)
            target = self._target(service, leg, figures)
            legs.append(route_table.Leg(self._layers(service, target, figures), leg.weight))
            asks.append((leg.weight, leg, target))
        timeout = LONGEST_INVOKE if service.timeout is None else service.timeout
        entry = Entry(service.key, legs, limits=service.limits, timeout=timeout)
        _, heaviest, target = max(asks, key=lambda ask: ask[0])
        asked = AskedTarget(
            first_implemented(*(_ask(target, name) for name in (REFLECTION, REFLECTION_ALPHA))),
            name=str(heaviest.target),
            now=_clock,
        )
        return entry, Source(described.get(service.key), asked)

    def _figures_of(self, service: Service, leg: Leg) -> TargetFigures:
        """Kept over reloads, and counted for each entry and leg: `max_concurrency` is theirs."""
        name = str(leg.target)
        return self._shared.targets.setdefault((service.key, name), TargetFigures(name))

    def _target(self, service: Service, leg: Leg, figures: TargetFigures) -> Handler:
        carrier = self.carrier(leg)
        self.invocations.append(
            Invocation(service.key, carrier, isinstance(leg.target, LocalTarget))
        )
        return InvokeTarget(
            carrier,
            figures=figures,
            clock=_clock,
            wall_clock=_wall_clock,
            compression=service.compression,
        ).handle

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

    def carrier(self, leg: Leg) -> LambdaInvoke:
        """Invoke for this leg's function."""
        match leg.target:
            case LocalTarget(name):
                return LambdaInvoke(
                    FunctionName.parse(name),
                    client=self._client,
                    credentials=local_credentials(),
                    endpoint_url=self._local_endpoint,
                )
            case LambdaTarget(function):
                assert self.credentials is not None
                endpoint = leg.endpoint_url or self.config.aws.endpoint_url
                return LambdaInvoke(
                    FunctionName.parse(function),
                    client=self._client,
                    credentials=self.credentials,
                    endpoint_url=None if endpoint is None else str(endpoint),
                )
            case _:
                raise AssertionError(f"{leg.target}: the configuration refuses this target")


def _ask(target: Handler, service: str) -> Ask:
    """How to ask a target by the reflection service of this name, which the function itself implements."""

    async def ask(requests: list[bytes]) -> list[bytes]:
        path = f"/{service}/ServerReflectionInfo"
        return await exchange(target, path, requests, seconds=TIMEOUT, clock=_clock)

    return ask


def _sought_credentials(config: Config, environ: Mapping[str, str]) -> SoughtCredentials | None:
    legs = [leg for service in config.services.values() for leg in service.legs]
    if not any(isinstance(leg.target, LambdaTarget) for leg in legs):
        return None
    aws: Aws = config.aws
    # botocore knows AWS_DEFAULT_REGION only; containers and every other SDK go by AWS_REGION.
    region = aws.region or environ.get("AWS_REGION")
    search = BotocoreSearch(profile=aws.profile, region=region, environment=environ)
    return SoughtCredentials(search)


def _load_all_descriptors(config: Config) -> dict[str, Descriptors]:
    """By services key. One path is read once, however many entries name it. Raises BadDescriptors."""
    loaded: dict[str, Descriptors] = {}
    found: dict[str, Descriptors] = {}
    for key, service in config.services.items():
        for leg in service.legs:
            if leg.descriptors is not None:
                name = str(leg.descriptors)
                if name not in loaded:
                    loaded[name] = load_descriptors(leg.descriptors)
                found.setdefault(key, loaded[name])
    return found


def conflicts_of(config: Config) -> list[str]:
    """What the configured descriptors tell differently about one name. Raises BadDescriptors."""
    return conflicts(_load_all_descriptors(config).values())
