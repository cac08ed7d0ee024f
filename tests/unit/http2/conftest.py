from __future__ import annotations

import pytest

from bridge.http2.h2_adapter import H2Engine
from bridge.http2.interface import EngineLimits
from bridge.http2.native import NativeEngine
from tests.support.frames import Client

EngineClass = type[NativeEngine] | type[H2Engine]


@pytest.fixture(params=[NativeEngine, H2Engine], ids=["native", "h2"])
def engine_class(request: pytest.FixtureRequest) -> EngineClass:
    """Each engine in turn: what they have in common."""
    engine_class: EngineClass = request.param
    return engine_class


@pytest.fixture
def either(engine_class: EngineClass) -> Client:
    """A client of each engine in turn, past the handshake."""
    return Client(engine_class(EngineLimits()))


@pytest.fixture
def client() -> Client:
    """A client of the native engine, past the handshake."""
    return Client(NativeEngine(EngineLimits()))
