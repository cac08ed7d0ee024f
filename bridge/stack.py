"""Builds the handlers for one configuration: the layers in reading order, around the targets.

A reload builds a second stack. Calls that began under the first one end under it, and then it is closed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from bridge.carriers.duplex.kept import KeptCarriers
from bridge.carriers.identity.assumed_role import CredentialSet
from bridge.carriers.lambda_configuration import LambdaConfiguration
from bridge.config.schema import Config, Service, TargetShare
from bridge.config.target import MAX_CALL_SECONDS, TargetKind
from bridge.conversion.converter import Conversions
from bridge.layers import route_table
from bridge.layers.access_log import AccessLog
from bridge.layers.admit import admit
from bridge.layers.choose_road import choose_road
from bridge.layers.deadline import Deadlines, deadline
from bridge.layers.durable import named, repeatable
from bridge.layers.gate import Gate
from bridge.layers.notable import NotableCalls
from bridge.layers.observe import observe
from bridge.layers.rescue import rescue
from bridge.layers.retry import retry
from bridge.layers.route import route
from bridge.layers.route_table import RouteEntry
from bridge.layers.tenant import tenant
from bridge.otel.traces import Tracing
from bridge.queueing.learned import Pauses
from bridge.routing.router import Router
from bridge.rpc.buffers import Buffers
from bridge.rpc.call import Handler
from bridge.rpc.errors import TenantRefused
from bridge.rpc.figures import BridgeFigures, TargetFigures
from bridge.rpc.places import Places
from bridge.services.builtin import REFLECTION, REFLECTION_ALPHA
from bridge.services.configured import load_configured
from bridge.services.descriptors import Descriptors
from bridge.services.reflected_target import TIMEOUT, Ask, ReflectedTarget, first_implemented
from bridge.services.sources import Source, Sources
from bridge.targets.builder import Destination, Targets
from bridge.targets.internal_call import exchange

_clock = time.monotonic


def front(
    *,
    log: AccessLog,
    notable: NotableCalls,
    figures: BridgeFigures,
    tracing: Tracing | None = None,
    redact: Callable[[str], str] = str,
) -> Handler:
    """Return the layers of every call, the outermost first. The layers of its route follow."""
    return _traced(  # Gives the call a span. Not installed while traces are off.
        observe(  # Counts and logs the call once, however it ends.
            rescue(  # Turns any failure into the call's status.
                route,  # Passes the call to its route: a built-in service, or the layers of a target.
                figures=figures,
                redact=redact,
            ),
            log=log,
            notable=notable,
            clock=_clock,
        ),
        tracing,
    )


@dataclass(frozen=True, slots=True)
class Shared:
    """State that is kept over a reload."""

    figures: BridgeFigures
    targets: dict[tuple[str, str], TargetFigures]
    """By services key and target."""
    deadlines: Deadlines
    environ: Mapping[str, str]
    tracing: Tracing | None = None
    """None: traces are off."""
    conversions: Conversions | None = None
    """What `payload: json` needs."""
    gates: dict[Hashable, Gate] = field(default_factory=dict)
    """The queues, and what was learned about functions, by what calls share them."""
    attached: KeptCarriers | None = None
    """The functions that take calls in full duplex; None: they have nowhere to connect."""


class Stack:
    """Belongs to the running loop. `open` comes first."""

    def __init__(self, config: Config, shared: Shared, *, local_endpoint: str) -> None:
        """`local_endpoint`: the URL of the local Lambda, or empty. Raises ValueError for bad proxies."""
        self.config = config
        self._shared = shared
        self._described: dict[str, Descriptors] = {}
        """By path."""
        self._targets = Targets(
            config,
            described=self._described,
            environ=shared.environ,
            local_endpoint=local_endpoint,
            conversions=shared.conversions,
            attached=shared.attached,
        )
        self.sources = Sources({})
        self.router: Router[RouteEntry] = Router({})
        self._gates: set[Hashable] = set()
        """The keys of the gates that its targets use."""

    @property
    def credentials(self) -> CredentialSet | None:
        """None: no target needs any."""
        return self._targets.credentials

    @property
    def invocations(self) -> Sequence[Destination]:
        return self._targets.invocations

    def configuration_of(self, leg: TargetShare) -> LambdaConfiguration:
        """Return the one that tells the configuration of this target, a function on AWS."""
        return self._targets.configuration_of(leg)

    async def open(self) -> None:
        """Read descriptors, build the targets, seek credentials. Raises ConfigErrors, OSError for TLS files."""
        self._described.update(await asyncio.to_thread(load_configured, self.config))
        entries: dict[str, RouteEntry | None] = {}
        sources: dict[str, Source | None] = {}
        for key, service in self.config.services.items():
            entries[key], sources[key] = self._build(service)
        self.router = Router(entries)
        self.sources = Sources(sources)
        if self._shared.conversions is not None:
            await self._shared.conversions.teach()  # before the first call needs them
        self._targets.start()

    def forget_other_gates(self) -> None:
        """Forget what was learned about functions that this configuration no longer calls."""
        for key in self._shared.gates.keys() - self._gates:
            del self._shared.gates[key]

    async def retire(self) -> None:
        """Seek and ask nothing more, then let go of connections when the last call must have ended."""
        self.sources.close()
        await self._targets.stop_seeking()
        await self._targets.let_calls_end(seconds=MAX_CALL_SECONDS)

    async def close(self) -> None:
        """Let go of everything; calls still under way end ConnectionLost."""
        self.sources.close()
        await self._targets.close()

    def _build(self, service: Service) -> tuple[RouteEntry | None, Source | None]:
        if not service.legs:
            return None, None
        legs, asks = [], []
        for leg in service.legs:
            figures = self._figures_of(service, leg)
            target = self._targets.of(service, leg, figures)
            duplex = self._targets.duplex_of(service, leg, figures)
            layers = self._layers(service, leg, target, duplex, figures)
            legs.append(
                route_table.WeightedTarget(
                    layers,
                    leg.weight,
                    max_call_seconds=leg.target.max_call_seconds,
                    streams=leg.target.streams,
                    name=str(leg.target),
                )
            )
            asks.append((leg.weight, leg, target))
        entry = RouteEntry(service.key, legs, limits=service.limits, timeout=service.timeout)
        _, heaviest, target = max(asks, key=lambda ask: ask[0])
        asked = ReflectedTarget(
            first_implemented(
                *(_ask(target, heaviest, name, self._shared.figures.buffers) for name in (REFLECTION, REFLECTION_ALPHA))
            ),
            name=str(heaviest.target),
            now=_clock,
        )
        return entry, Source(self._descriptors_of(service), asked)

    def _descriptors_of(self, service: Service) -> Descriptors | None:
        """Of the first leg that has any."""
        paths = (str(leg.descriptors.path) for leg in service.legs if leg.descriptors is not None)
        return next((self._described[path] for path in paths), None)

    def _figures_of(self, service: Service, leg: TargetShare) -> TargetFigures:
        """Kept over reloads, and counted for each entry and leg: `max_concurrency` is theirs."""
        name = str(leg.target)
        return self._shared.targets.setdefault((service.key, name), TargetFigures(name))

    def _gate_of(self, service: Service, leg: TargetShare, figures: TargetFigures) -> Gate:
        """Return the queue in front of a target. It is kept over reloads.

        All entries and legs that call a function in the same way share it.
        """
        key = self._gate_key(service, leg)
        gate = self._shared.gates.get(key)
        if gate is None:
            gate = self._shared.gates[key] = Gate(clock=_clock, learns=leg.target.tells_limits)
        # One target of each function tells its limit, so that the metric counts it once.
        figures.read_limit = None if key in self._gates else gate.read_limit
        self._gates.add(key)
        return gate

    def _duplex_gate_of(self, service: Service, leg: TargetShare) -> Gate:
        """Return the queue of a target's calls in full duplex. It is kept over reloads like the places of these calls:
        a call that began before a reload wakes one that waits after it.
        """
        key = "duplex", service.key, leg.target
        gate = self._shared.gates.get(key)
        if gate is None:
            gate = Gate(clock=_clock, learns=leg.target.tells_limits, new_limits=Pauses)
            self._shared.gates[key] = gate
        self._gates.add(key)
        return gate

    def _gate_key(self, service: Service, leg: TargetShare) -> Hashable:
        """Return what a limit belongs to: function, qualifier, role and endpoint. Other targets have no limits to
        share.
        """
        if not leg.target.tells_limits:
            return service.key, leg.target
        aws = self.config.aws
        region = leg.target.region or aws.region
        return leg.target, region, leg.role_arn or aws.role_arn, leg.endpoint_url or aws.endpoint_url

    def _layers(
        self, service: Service, leg: TargetShare, target: Handler, duplex: Handler | None, figures: TargetFigures
    ) -> Handler:
        """Return the layers of a call to this target after `front`, the outermost first. `duplex`: the handler of the
        same target in full duplex, if it has one.
        """
        gate = self._gate_of(service, leg, figures)
        admitted = self._admitted(service, leg, target, figures, gate, gathers=not leg.target.streams)
        if duplex is not None:
            admitted = choose_road(  # Sends calls whose client streams in full duplex, and gathers the others.
                admitted,
                self._admitted(
                    service,
                    leg,
                    duplex,
                    figures,
                    self._duplex_gate_of(service, leg),
                    gathers=False,
                    places=figures.duplex_places,
                ),
                use=leg.duplex.use,
                client_streams=self._client_streams,
                clock=_clock,
            )
        bounded = deadline(  # Ends the call at its deadline, while it waits too.
            admitted,
            deadlines=self._shared.deadlines,
            clock=_clock,
        )
        if leg.durable is not None:
            bounded = named(bounded, metadata=leg.durable.name.metadata)  # Names the execution that the call becomes.
        if leg.tenant is None:
            return bounded
        return tenant(bounded, source=leg.tenant)  # Finds out whose call it is, or refuses it.

    def _admitted(
        self,
        service: Service,
        leg: TargetShare,
        target: Handler,
        figures: TargetFigures,
        gate: Gate,
        *,
        gathers: bool,
        places: Places | None = None,
    ) -> Handler:
        """Return the layers of a call on one road to its target."""
        if leg.durable is not None:
            target = repeatable(target)  # Says that an execution whose answer was lost may be asked for again.
        return admit(  # Waits for the request, then for the call's turn. Repeats throttled calls.
            retry(  # Repeats the call if it provably did not reach the function.
                _traced_attempt(  # Gives each attempt a span. Not installed while traces are off.
                    target,  # codec and carrier
                    leg.target,
                    self._shared.tracing,
                ),
                policy=service.retry,
                target=figures,
                clock=_clock,
            ),
            target=figures,
            gate=gate,
            max_concurrency=service.max_concurrency,
            queue=service.queue,
            repeats=service.retry.attempts > 1,
            buffers=self._shared.figures.buffers,
            gathers=gathers,
            places=places,
            clock=_clock,
            tenant_of=None if leg.tenant is None else attrgetter("tenant"),
        )

    def _client_streams(self, path: str) -> bool | None:
        """Whether clients stream requests to this method, as far as its descriptor is known."""
        kind = self.sources.method_kind(path)
        return None if kind == "unknown" else kind in ("client_stream", "bidi_stream")


def _traced(inner: Handler, tracing: Tracing | None) -> Handler:
    if tracing is None:
        return inner
    from bridge.layers.trace import traced

    return traced(inner, tracer=tracing.tracer, propagator=tracing.propagator)


def _traced_attempt(inner: Handler, target: TargetKind, tracing: Tracing | None) -> Handler:
    if tracing is None:
        return inner
    from bridge.layers.trace import traced_attempt

    return traced_attempt(inner, target=target, tracer=tracing.tracer, propagator=tracing.propagator)


def _ask(target: Handler, leg: TargetShare, service: str, buffers: Buffers) -> Ask:
    """How to ask a target by the reflection service of this name, which the function itself implements."""
    tenant = "" if leg.tenant is None else leg.tenant.constant

    async def ask(requests: list[bytes]) -> list[bytes]:
        if leg.tenant is not None and not tenant:
            raise TenantRefused("calls bring its tenants, and the bridge itself has none: set descriptors")
        path = f"/{service}/ServerReflectionInfo"
        return await exchange(target, path, requests, seconds=TIMEOUT, clock=_clock, buffers=buffers, tenant=tenant)

    return ask
