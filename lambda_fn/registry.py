"""The methods that generated code has registered, looked up by path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import grpc

from lambda_fn import reflection
from lambda_fn.interceptors import Handler


class Registry:
    """What `add_…Servicer_to_server` filled in. Methods by name come before generic handlers."""

    def __init__(self, *, reflects: bool) -> None:
        self.methods: dict[str, Handler] = {}
        self.generic_handlers: list[Any] = []
        self._services: set[str] = set()
        self._reflects = reflects

    def add_generic(self, handlers: Iterable[Any]) -> None:
        for handler in handlers:
            if not hasattr(handler, "service"):
                raise AttributeError(f"{handler!r} is no grpc.GenericRpcHandler: it has no method `service`")
            self.generic_handlers.append(handler)
            if isinstance(handler, grpc.ServiceRpcHandler):
                self._services.add(handler.service_name())

    def add_methods(self, service: str, handlers: Mapping[str, Handler]) -> None:
        self._services.add(service)
        for name, handler in handlers.items():
            self.methods[f"/{service}/{name}"] = handler

    def services(self) -> list[str]:
        return sorted(self._services)

    def find(self, details: Any) -> Handler | None:
        """Return the handler for a call. What a servicer registered wins over the built-in reflection."""
        method = details.method
        if (handler := self.methods.get(method)) is not None:
            return handler
        for generic in self.generic_handlers:
            if (handler := generic.service(details)) is not None:
                return handler
        return reflection.handler_of(method, self.services) if self._reflects else None
