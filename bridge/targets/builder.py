"""Builds the Handler for one leg of a services entry. The leg's settings choose the codec and the carrier."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from bridge.aws import rie
from bridge.aws.arn import FunctionName
from bridge.aws.invoke import MAX_REQUEST
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
from bridge.carriers.lambda_invoke import LambdaInvoke
from bridge.carriers.lambda_stream import LambdaStream
from bridge.carriers.rie_invoke import RieInvoke
from bridge.config.endpoint import endpoint_in
from bridge.config.schema import Aws, Config, Role, Service, TargetShare, TargetTls
from bridge.config.target import GrpcTargetSpec, HttpTargetSpec, LambdaTargetSpec, LocalTarget
from bridge.conversion.converter import Conversions, Converter
from bridge.rpc.call import Handler
from bridge.rpc.figures import TargetFigures
from bridge.rpc.url import Url
from bridge.services.descriptors import Descriptors
from bridge.services.transcode import MAX_MESSAGE
from bridge.targets.grpc_target import GrpcTarget
from bridge.targets.http_target import HttpTarget
from bridge.targets.lambda_target import LambdaTarget
from bridge.targets.payload import EVENTS, Payload, payload_of
from bridge.targets.raw_target import RawTarget
from bridge.targets.stream_target import StreamTarget

_clock = time.monotonic
_wall_clock = time.time  # noqa: TID251 - AWS wants the time of day

_Carrier = TypeVar("_Carrier", LambdaInvoke, LambdaStream)


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
    carrier: Asked
    is_local: bool


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
    ) -> None:
        """Take `described`, keyed by path. `local_endpoint` is the URL of the local Lambda, or empty. `conversions` is
        needed by `payload: json`.

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
        self._large = asyncio.Lock()
        """A target holds this lock while it inflates a large request."""
        self.credentials = _identities(config, environ)
        """None: no target needs any."""
        self.invocations: list[Destination] = []
        """The targets that `of` has built so far."""

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
        await asyncio.sleep(seconds)
        self._close_converters()
        await self._client.close()

    async def close(self) -> None:
        """Close every connection. Calls still under way fail with ConnectionLost."""
        await self.stop_seeking()
        for carrier in self._native:
            await carrier.close()
        self._close_converters()
        await self._client.close()

    def _close_converters(self) -> None:
        while self._converters:
            self._converters.pop().close()

    def of(self, service: Service, leg: TargetShare, figures: TargetFigures) -> Handler:
        """Return the handler of this target. Raises OSError for TLS files that cannot be used."""
        if isinstance(leg.target, GrpcTargetSpec):
            return self._native_target(service, leg, leg.target)
        if isinstance(leg.target, HttpTargetSpec):
            return self._http_target(leg.target, service, leg, figures)
        is_whole = leg.event == "raw" or leg.quirks == "rie"  # the emulator has no streams
        if leg.invoke_mode == "response_stream" and not is_whole:
            return self._stream_target(service, leg, figures)
        carrier = self._rie(leg) if leg.quirks == "rie" else self._carrier(leg, LambdaInvoke)
        self._remember(service, leg, carrier)
        if leg.event == "raw":
            # The reply is one value, so it is read whole even if the function streams it.
            return RawTarget(carrier, transcode=self._converter(leg), clock=_clock, large=self._large).handle
        return LambdaTarget(
            carrier,
            figures=figures,
            clock=_clock,
            wall_clock=_wall_clock,
            compression=service.compression,
            large=self._large,
            payload=self._payload(leg),
            event=EVENTS[leg.event],
        ).handle

    def _payload(self, leg: TargetShare) -> Payload:
        """Return the payload format of this leg's target."""
        if leg.payload != "json":
            return payload_of(leg.payload)
        is_event = not isinstance(leg.target, HttpTargetSpec)
        return payload_of(
            leg.payload,
            self._converter(leg),
            max_json=MAX_REQUEST - 1 if is_event else MAX_MESSAGE,
        )

    def _converter(self, leg: TargetShare) -> Converter:
        assert leg.descriptors is not None, "the configuration refuses payload: json without"
        assert self._conversions is not None
        converter = self._conversions.converter(
            self._described[str(leg.descriptors.path)],
            proto_names=leg.json.names == "proto",
            defaults=leg.json.defaults,
        )
        self._converters.append(converter)
        return converter

    def _stream_target(self, service: Service, leg: TargetShare, figures: TargetFigures) -> Handler:
        carrier = self._carrier(leg, LambdaStream)
        self._remember(service, leg, carrier)
        return StreamTarget(
            carrier,
            figures=figures,
            clock=_clock,
            wall_clock=_wall_clock,
            compression=service.compression,
            large=self._large,
            payload=self._payload(leg),
            event=EVENTS[leg.event],
        ).handle

    def _http_target(
        self, target: HttpTargetSpec, service: Service, leg: TargetShare, figures: TargetFigures
    ) -> Handler:
        """Return the handler of an HTTP target. Raises OSError for TLS files that cannot be used."""
        iam = None
        if leg.auth is not None:
            assert self.credentials is not None
            credentials = self.credentials.of(self._config.aws.role_arn)
            iam = Iam(leg.auth.service, leg.auth.region, credentials, _wall_clock)
        tls = None if leg.tls is None else _tls_context(leg.tls)
        carrier = HttpCarrier(target.url, client=self._client, tls=tls, iam=iam)
        self._remember(service, leg, carrier)
        return HttpTarget(
            carrier,
            figures=figures,
            clock=_clock,
            wall_clock=_wall_clock,
            fields=leg.headers,
            is_signed=iam is not None,
            compression=service.compression,
            large=self._large,
            payload=self._payload(leg),
        ).handle

    def _remember(self, service: Service, leg: TargetShare, carrier: Asked) -> None:
        is_local = isinstance(leg.target, LocalTarget)
        self.invocations.append(Destination(service.key, carrier, is_local))

    def _native_target(self, service: Service, leg: TargetShare, server: GrpcTargetSpec) -> Handler:
        carrier = GrpcCarrier(server, tls=leg.tls, limits=service.limits, dialer=self._client.dialer)
        self._native.append(carrier)
        self._remember(service, leg, carrier)
        return GrpcTarget(carrier, clock=_clock, headers=leg.headers).handle

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
                    FunctionName(name),
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
    own = RefreshingCredentials(BotocoreSearch(profile=aws.profile, region=region, environment=environ))
    roles: dict[Role, RefreshingCredentials] = {}
    for leg in signed:
        role = leg.role_arn or aws.role_arn
        if role is not None and role not in roles:
            search = AssumeRole(role, base=own, region=_region_of(leg), profile=aws.profile)
            roles[role] = RefreshingCredentials(search, none_yet=assumed_role.NO_ROLE_YET)
    return CredentialSet(own, roles)


def _is_signed(leg: TargetShare) -> bool:
    """Whether this leg's target checks signatures. AWS's emulator does not."""
    return (isinstance(leg.target, LambdaTargetSpec) and leg.quirks is None) or leg.auth is not None


def _region_of(leg: TargetShare) -> str | None:
    if leg.auth is not None:
        return leg.auth.region
    return leg.target.function.region if isinstance(leg.target, LambdaTargetSpec) else None
