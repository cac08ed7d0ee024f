"""Builds the Handler for one leg of a services entry. The leg's settings choose the codec and the carrier."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from bridge.aws import rie
from bridge.aws.arn import LATEST, FunctionName
from bridge.aws.hosts import ALL_REGIONS
from bridge.aws.invoke import MAX_REQUEST, InvokeReply
from bridge.aws.tenancy import tenant_header
from bridge.carriers.duplex.carrier import Invoker
from bridge.carriers.duplex.kept import KeptCarriers
from bridge.carriers.grpc.carrier import GrpcCarrier
from bridge.carriers.http import HttpCarrier, Iam
from bridge.carriers.http1.client import HttpClient
from bridge.carriers.http1.tls import client_context
from bridge.carriers.identity import assumed_role
from bridge.carriers.identity.assumed_role import AssumeRole, CredentialSet
from bridge.carriers.identity.credentials import (
    BotocoreSearch,
    RefreshingCredentials,
    local_credentials,
)
from bridge.carriers.lambda_configuration import LambdaConfiguration
from bridge.carriers.lambda_invoke import LambdaInvoke
from bridge.carriers.lambda_stream import LambdaStream
from bridge.carriers.rie_invoke import RieInvoke
from bridge.config.endpoint import endpoint_in
from bridge.config.formats import EVENTS, PAYLOADS, RAW
from bridge.config.schema import Aws, Config, Role, Service, TargetShare, TargetTls
from bridge.config.target import (
    Can,
    GrpcTargetSpec,
    HttpTargetSpec,
    LambdaTargetSpec,
    LocalTarget,
    LocalWebTarget,
    TargetKind,
)
from bridge.conversion.converter import Conversions, Converter
from bridge.rpc.call import Handler
from bridge.rpc.figures import TargetFigures
from bridge.rpc.url import Url
from bridge.services.descriptors import Descriptors
from bridge.services.transcode import MAX_MESSAGE
from bridge.targets.duplex_metadata import with_facts
from bridge.targets.duplex_tenants import DuplexTenants
from bridge.targets.durable_backend import DurableBackend, RepeatableBackend
from bridge.targets.gathering_target import Backend, GatheringTarget
from bridge.targets.grpc_target import GrpcTarget, with_headers
from bridge.targets.http_backend import HttpBackend
from bridge.targets.lambda_backend import InvokeBackend, StreamBackend
from bridge.targets.payload import Payload, payload_of
from bridge.targets.raw_backend import RawBackend

_clock = time.monotonic
_wall_clock = time.time  # noqa: TID251 - AWS wants the time of day

_Carrier = TypeVar("_Carrier", LambdaInvoke, LambdaStream, LambdaConfiguration)


class Asked(Protocol):
    """A carrier that can tell whether its target would answer."""

    async def dry_run(self) -> None:
        """Ask the target without making a call. Raises RpcError. The caller bounds the time."""
        ...


@dataclass(frozen=True, slots=True)
class Destination:
    """What a services entry leads to."""

    key: str
    """The entry's."""
    leg: TargetShare
    carrier: Asked
    is_local: bool


PROBING_TENANT = "grpc-lambda-bridge"
"""The tenant of dry runs, where calls bring theirs. A dry run starts no instance."""


class _AskedForTenant:
    """A carrier to a function with tenants, which refuses dry runs that name none."""

    def __init__(self, carrier: LambdaInvoke | LambdaStream, tenant: str) -> None:
        self._carrier = carrier
        self._headers = tenant_header(tenant)

    async def dry_run(self) -> None:
        await self._carrier.dry_run(self._headers)


class _InvokerForTenant:
    """Invokes a function for one tenant."""

    def __init__(self, carrier: LambdaInvoke, tenant: str) -> None:
        self._carrier = carrier
        self._headers = tenant_header(tenant)

    async def invoke(self, payload: bytes) -> InvokeReply:
        return await self._carrier.invoke(payload, headers=self._headers)

    async def dry_run(self) -> None:
        await self._carrier.dry_run(self._headers)


_Builder = Callable[[Service, TargetShare, TargetFigures], tuple[Asked, Handler]]
"""Builds the carrier and the handler of one kind of target."""


class Targets:
    """The targets of one configuration, and the connections and credentials they share. Belongs to the running loop."""

    def __init__(
        self,
        config: Config,
        *,
        described: Mapping[str, Descriptors],
        environ: Mapping[str, str],
        local_endpoint: str,
        conversions: Conversions | None = None,
        attached: KeptCarriers | None = None,
    ) -> None:
        """Take `described`, keyed by path. `local_endpoint` is the URL of the local Lambda, or empty. `conversions` is
        needed by `payload: json`, `attached` by functions that take calls in full duplex.

        Raises ValueError for proxies that cannot be used.
        """
        self._config = config
        self._described = described
        self._environ = environ
        self._local_endpoint = Url.parse(local_endpoint) if local_endpoint else None
        self._client = HttpClient(
            environment=environ,
            limits=config.aws.pool,
        )
        self._conversions = conversions
        self._converters: list[Converter] = []
        self._native: list[GrpcCarrier] = []
        self._attached = attached
        self._to_give_back: list[Callable[[], None]] = []
        """Each gives back one of the carriers in full duplex, or those of all tenants."""
        self._large = asyncio.Lock()
        """A target holds this lock while it inflates a large request."""
        self.credentials = _identities(config, environ)
        """None: no target needs any."""
        self.invocations: list[Destination] = []
        """The targets that `of` has built so far."""
        self._builders: Mapping[type[TargetKind], _Builder] = {
            LambdaTargetSpec: self._build_lambda,
            LocalTarget: self._build_lambda,
            LocalWebTarget: self._build_local_web,
            HttpTargetSpec: self._build_http,
            GrpcTargetSpec: self._build_grpc,
        }

    def start(self) -> None:
        """Start to look for credentials."""
        if self.credentials is not None:
            self.credentials.start()

    async def stop_seeking(self) -> None:
        """Stop fetching credentials. Calls under way keep those they have."""
        if self.credentials is not None:
            await self.credentials.close()

    async def let_calls_end(self, *, seconds: float) -> None:
        """Close idle connections now, and the others after this many seconds."""
        for carrier in self._native:
            carrier.retire()
        self._release_attached()
        await asyncio.sleep(seconds)
        self._close_converters()
        await self._client.close()

    async def close(self) -> None:
        """Close every connection. Calls still under way fail with ConnectionLost."""
        await self.stop_seeking()
        self._release_attached()
        for carrier in self._native:
            await carrier.close()
        self._close_converters()
        await self._client.close()

    def _release_attached(self) -> None:
        while self._to_give_back:
            self._to_give_back.pop()()

    def _close_converters(self) -> None:
        while self._converters:
            self._converters.pop().close()

    def of(self, service: Service, leg: TargetShare, figures: TargetFigures) -> Handler:
        """Return the handler of this target. Raises OSError for TLS files that cannot be used."""
        carrier, handler = self._builders[type(leg.target)](service, leg, figures)
        if leg.tenant is not None:
            assert isinstance(carrier, LambdaInvoke | LambdaStream)
            carrier = _AskedForTenant(carrier, leg.tenant.constant or PROBING_TENANT)
        is_local = leg.target.local_function is not None
        self.invocations.append(Destination(service.key, leg, carrier, is_local))
        return handler

    def duplex_of(self, service: Service, leg: TargetShare, figures: TargetFigures) -> Handler | None:
        """Return the handler of this target in full duplex, or None if it never takes calls so."""
        if self._attached is None or not leg.may_connect:
            return None
        aws, attached, invoker = self._config.aws, self._attached, self._carrier(leg, LambdaInvoke)
        # An instance never takes calls for another function, account, role, endpoint or entry.
        key = (
            service.key,
            leg.target,
            leg.target.region or aws.region,
            aws.profile,
            leg.role_arn or aws.role_arn,
            self._local_endpoint if leg.target.local_function else leg.endpoint_url or aws.endpoint_url,
            leg.duplex,
            service.limits,
        )
        invokers: dict[str, Invoker] = {}

        def take(tenant: str) -> Handler:
            invokers[tenant] = _InvokerForTenant(invoker, tenant) if tenant else invoker
            carrier = attached.take(
                (*key, tenant),
                str(leg.target),
                invokers[tenant],
                settings=leg.duplex,
                limits=service.limits,
                observer=figures,
            )
            return GrpcTarget(carrier, clock=_clock, metadata_of=with_facts).handle

        def give_back(tenant: str) -> None:
            attached.release((*key, tenant), invokers.pop(tenant))

        if leg.tenant is None:
            self._to_give_back.append(partial(give_back, ""))
            return take("")
        tenants = DuplexTenants(str(leg.target), take=take, give_back=give_back, idle=leg.duplex.idle)
        self._to_give_back.append(tenants.close)
        return tenants.handle

    def configuration_of(self, leg: TargetShare) -> LambdaConfiguration:
        """Return the one that tells the configuration of this target, a function on AWS."""
        return self._carrier(leg, LambdaConfiguration)

    # -- one builder for each kind of target ---------------------------------------------------------------------------

    def _build_lambda(self, service: Service, leg: TargetShare, figures: TargetFigures) -> tuple[Asked, Handler]:
        payload = self._payload(leg)
        backend: Backend
        if leg.invoke_mode == "response_stream" and leg.event != RAW and leg.quirks is None:
            stream = self._carrier(leg, LambdaStream)
            backend = StreamBackend(stream, event=EVENTS[leg.event], kind=payload.kind, wall_clock=_wall_clock)
            return stream, self._gathering(backend, payload, service, figures)
        carrier = self._rie(leg) if leg.quirks == "rie" else self._carrier(leg, LambdaInvoke)
        if leg.event == RAW:
            # The reply is one value, so it is read whole even if the function streams it.
            invoking: RepeatableBackend = RawBackend(carrier, clock=_clock)
        else:
            invoking = InvokeBackend(carrier, event=EVENTS[leg.event], kind=payload.kind, wall_clock=_wall_clock)
        backend = invoking if leg.durable is None else DurableBackend(invoking)
        return carrier, self._gathering(backend, payload, service, figures)

    def _build_http(self, service: Service, leg: TargetShare, figures: TargetFigures) -> tuple[Asked, Handler]:
        assert isinstance(leg.target, HttpTargetSpec)
        iam = None
        if leg.auth is not None:
            assert self.credentials is not None
            credentials = self.credentials.of(self._config.aws.role_arn)
            iam = Iam(leg.auth.service, leg.auth.region, credentials, _wall_clock)
        tls = None if leg.tls is None else _tls_context(leg.tls)
        carrier = HttpCarrier(leg.target.url, client=self._client, tls=tls, iam=iam, connect_to=leg.connect_to)
        return carrier, self._over_http(carrier, service, leg, figures)

    def _build_local_web(self, service: Service, leg: TargetShare, figures: TargetFigures) -> tuple[Asked, Handler]:
        assert isinstance(leg.target, LocalWebTarget)
        assert self._local_endpoint is not None, "the configuration refuses local: without"
        url = Url(self._local_endpoint.origin, f"/lambda-web/{leg.target.name}")
        carrier = HttpCarrier(url, client=self._client)
        return carrier, self._over_http(carrier, service, leg, figures)

    def _over_http(self, carrier: HttpCarrier, service: Service, leg: TargetShare, figures: TargetFigures) -> Handler:
        payload = self._payload(leg)
        backend = HttpBackend(carrier, kind=payload.kind, headers=leg.headers, wall_clock=_wall_clock)
        return self._gathering(backend, payload, service, figures)

    def _build_grpc(self, service: Service, leg: TargetShare, figures: TargetFigures) -> tuple[Asked, Handler]:  # noqa: ARG002 - all builders are called alike
        assert isinstance(leg.target, GrpcTargetSpec)
        limits, dialer = service.limits, self._client.dialer
        carrier = GrpcCarrier(leg.target, tls=leg.tls, connect_to=leg.connect_to, limits=limits, dialer=dialer)
        self._native.append(carrier)
        return carrier, GrpcTarget(carrier, clock=_clock, metadata_of=with_headers(leg.headers)).handle

    # -- what they are built from --------------------------------------------------------------------------------------

    def _gathering(self, backend: Backend, payload: Payload, service: Service, figures: TargetFigures) -> Handler:
        target = GatheringTarget(
            backend,
            payload=payload,
            compression=service.compression,
            large=self._large,
            figures=figures,
            clock=_clock,
        )
        return target.handle

    def _payload(self, leg: TargetShare) -> Payload:
        """Return the payload format of this leg's target."""
        if not PAYLOADS[leg.payload].needs_descriptors:
            return payload_of(leg.payload)
        max_json = MAX_REQUEST - 1 if Can.TAKE_EVENTS in leg.target.can else MAX_MESSAGE
        return payload_of(leg.payload, self._converter(leg), max_json=max_json)

    def _converter(self, leg: TargetShare) -> Converter:
        assert leg.descriptors is not None, "the configuration refuses such a format without descriptors"
        assert self._conversions is not None
        converter = self._conversions.converter(
            self._described[str(leg.descriptors.path)],
            proto_names=leg.json.names == "proto",
            defaults=leg.json.defaults,
        )
        self._converters.append(converter)
        return converter

    def _rie(self, leg: TargetShare) -> RieInvoke:
        """Return a carrier for the Invoke API of AWS's local emulator. The SDKs' variables set its address, as they do
        for Lambda.
        """
        assert isinstance(leg.target, LambdaTargetSpec)
        configured = leg.endpoint_url or self._config.aws.endpoint_url
        _, named = endpoint_in(self._environ) or ("", "")
        return RieInvoke(
            leg.target.function,
            client=self._client,
            endpoint_url=configured or Url.parse(named or rie.ENDPOINT),
        )

    def _carrier(self, leg: TargetShare, kind: type[_Carrier]) -> _Carrier:
        """Return the API that calls this leg's function."""
        match leg.target:
            case LocalTarget(name):
                assert self._local_endpoint is not None, "the configuration refuses local: without"
                return kind(
                    FunctionName(name, LATEST if leg.durable is not None else None),
                    client=self._client,
                    credentials=local_credentials(),
                    endpoint_url=self._local_endpoint,
                )
            case LambdaTargetSpec(function):
                assert self.credentials is not None
                endpoint = leg.endpoint_url or self._config.aws.endpoint_url
                return kind(
                    function,
                    client=self._client,
                    credentials=self.credentials.of(leg.role_arn or self._config.aws.role_arn),
                    endpoint_url=endpoint,
                    connect_to=leg.connect_to,
                )
            case _:
                raise AssertionError(f"{leg.target}: the configuration refuses this target")


def _tls_context(files: TargetTls) -> ssl.SSLContext:
    return client_context(ca=files.ca, certificate=files.cert, key=files.key, server_name=files.server_name)


def _identities(config: Config, environ: Mapping[str, str]) -> CredentialSet | None:
    """Return the credentials for targets whose requests are signed. None if no target needs any."""
    legs = [leg for service in config.services.values() for leg in service.legs]
    signed = [leg for leg in legs if _is_signed(leg)]
    if not signed:
        return None
    aws: Aws = config.aws
    # botocore reads only AWS_DEFAULT_REGION. Containers and every other SDK use AWS_REGION.
    region = aws.region or environ.get("AWS_REGION")
    search = BotocoreSearch(
        profile=aws.profile, region=region, uses_fips=aws.fips, uses_dual_stack=aws.dual_stack, environment=environ
    )
    own = RefreshingCredentials(search)
    roles: dict[Role, RefreshingCredentials] = {}
    signed_for: dict[Role | None, dict[str, None]] = {}
    for leg in signed:
        role = leg.role_arn or aws.role_arn
        signed_for.setdefault(role, {})[str(leg.target)] = None
        if role is not None and role not in roles:
            assuming = AssumeRole(role, base=own, region=_region_of(leg), profile=aws.profile)
            roles[role] = RefreshingCredentials(assuming, none_yet=assumed_role.NO_ROLE_YET)
    return CredentialSet(own, roles, {role: tuple(targets) for role, targets in signed_for.items()})


def _is_signed(leg: TargetShare) -> bool:
    """Whether this leg's target checks signatures. AWS's emulator does not."""
    return (Can.BE_AWS in leg.target.can and leg.quirks is None) or leg.auth is not None


def _region_of(leg: TargetShare) -> str | None:
    if leg.auth is None:
        return leg.target.region
    return None if leg.auth.region == ALL_REGIONS else leg.auth.region
