"""Makes gathering targets over a carrier, with what tests mostly need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from bridge.codecs.json import Transcode
from bridge.config.formats import EVENTS, EventShape
from bridge.rpc.figures import TargetFigures
from bridge.targets.gathering_target import Backend, GatheringTarget
from bridge.targets.http_backend import HttpBackend, HttpSender
from bridge.targets.lambda_backend import InvokeBackend, InvokeCarrier, StreamBackend, StreamCarrier
from bridge.targets.payload import GRPC_WEB_PAYLOAD, HTTP_V2, Payload, payload_of
from bridge.targets.raw_backend import RawBackend
from bridge.targets.request import CompressionMode
from tests.support.fakes import FakeClock

Clock = Callable[[], float]


def gathering(
    backend: Backend,
    *,
    payload: Payload = GRPC_WEB_PAYLOAD,
    compression: CompressionMode = "pass",
    figures: TargetFigures | None = None,
    clock: Clock | None = None,
) -> GatheringTarget:
    return GatheringTarget(
        backend,
        payload=payload,
        compression=compression,
        large=asyncio.Lock(),
        figures=figures or TargetFigures("f"),
        clock=clock or FakeClock(),
    )


def invoke_target(
    carrier: InvokeCarrier,
    *,
    payload: Payload = GRPC_WEB_PAYLOAD,
    event: EventShape = HTTP_V2,
    compression: CompressionMode = "pass",
    figures: TargetFigures | None = None,
    clock: Clock | None = None,
    wall_clock: Clock | None = None,
) -> GatheringTarget:
    backend = InvokeBackend(carrier, event=event, kind=payload.kind, wall_clock=wall_clock or FakeClock())
    return gathering(backend, payload=payload, compression=compression, figures=figures, clock=clock)


def stream_target(
    carrier: StreamCarrier,
    *,
    payload: Payload = GRPC_WEB_PAYLOAD,
    figures: TargetFigures | None = None,
    clock: Clock | None = None,
    wall_clock: Clock | None = None,
) -> GatheringTarget:
    event = EVENTS["http-v2"]
    backend = StreamBackend(carrier, event=event, kind=payload.kind, wall_clock=wall_clock or FakeClock())
    return gathering(backend, payload=payload, figures=figures, clock=clock)


def raw_target(carrier: InvokeCarrier, *, transcode: Transcode, clock: Clock) -> GatheringTarget:
    return gathering(RawBackend(carrier, clock=clock), payload=payload_of("json", transcode), clock=clock)


def http_target(
    carrier: HttpSender,
    *,
    wall_clock: Clock,
    headers: Mapping[str, str] | None = None,
    figures: TargetFigures | None = None,
) -> GatheringTarget:
    backend = HttpBackend(carrier, kind=GRPC_WEB_PAYLOAD.kind, headers=headers or {}, wall_clock=wall_clock)
    return gathering(backend, figures=figures)
