"""A function that answers grpc.reflection.v1, written with gRPC's own message classes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from grpc_reflection.v1alpha import reflection_pb2

Request = reflection_pb2.ServerReflectionRequest
Response = reflection_pb2.ServerReflectionResponse


class ReflectingFunction:
    """Answers reflection from prepared files, one at a time, as a bare server does; notes what it is asked."""

    def __init__(self, services: Iterable[str], files: dict[str, bytes]) -> None:
        self.services = [*services]
        self.files = files
        """By symbol or file name."""
        self.asked: list[list[str]] = []
        self.failure: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def __call__(self, requests: list[bytes]) -> list[bytes]:
        parsed = [Request.FromString(request) for request in requests]
        self.asked.append([getattr(request, request.WhichOneof("message_request")) for request in parsed])
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return [self._answer(request).SerializeToString() for request in parsed]

    def _answer(self, request: Any) -> Any:
        if request.WhichOneof("message_request") == "list_services":
            return Response(list_services_response={"service": [{"name": name} for name in self.services]})
        name = request.file_containing_symbol or request.file_by_filename
        if name not in self.files:
            return Response(error_response={"error_code": 5, "error_message": "no"})
        return Response(file_descriptor_response={"file_descriptor_proto": [self.files[name]]})
