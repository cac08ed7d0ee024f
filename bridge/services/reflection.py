"""gRPC server reflection, v1 and v1alpha: questions about services and types in, file descriptors out.

The answers come from Sources; a question that finds none is answered with an ErrorResponse, and the stream goes on. The
two versions differ in their package alone, so one set of message classes reads and writes both.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from bridge.rpc.call import Call
from bridge.rpc.errors import NoRoute
from bridge.rpc.events import EMPTY_HEADERS, OK_TRAILERS
from bridge.rpc.status import StatusCode
from bridge.services import exchange
from bridge.services.builtin import message_class
from bridge.services.errors import NotDescribed

if TYPE_CHECKING:
    from bridge.services.descriptors import Descriptors
    from bridge.services.sources import Sources

_PACKAGE = "grpc.reflection.v1"


class ReflectionService:
    """The Handler of the reflection services."""

    def __init__(self, sources: Callable[[], Sources]) -> None:
        """Take `sources`, which gives those of the configuration in force."""
        self._sources = sources

    async def handler(self, call: Call) -> None:
        """Answers a call to ServerReflectionInfo, request by request. Raises NoRoute and what reading raises."""
        if call.path.rpartition("/")[2] != "ServerReflectionInfo":
            raise NoRoute(f"{call.path[:200]} is not a method of server reflection")
        call.send(EMPTY_HEADERS)
        conversation = _Conversation(self._sources)
        request_class = message_class(f"{_PACKAGE}.ServerReflectionRequest")
        while (request := await exchange.receive(call, request_class)) is not None:
            await exchange.send(call, await conversation.answer(request))
        call.send(OK_TRAILERS)


class _Conversation:
    """One stream of questions. It remembers whose descriptors it gave last: later questions are mostly about those."""

    def __init__(self, sources: Callable[[], Sources]) -> None:
        self._sources = sources
        self._last: Descriptors | None = None
        self._answers: dict[str, Callable[[Any, Any], Awaitable[None]]] = {
            "list_services": self._list_services,
            "file_by_filename": self._file_by_filename,
            "file_containing_symbol": self._file_containing_symbol,
            "file_containing_extension": self._file_containing_extension,
            "all_extension_numbers_of_type": self._all_extension_numbers,
        }

    async def answer(self, request: Any) -> Any:
        response = message_class(f"{_PACKAGE}.ServerReflectionResponse")(
            valid_host=request.host, original_request=request
        )
        question = request.WhichOneof("message_request")
        if question is None:
            response.error_response.error_code = StatusCode.INVALID_ARGUMENT
            response.error_response.error_message = "the request asks nothing"
            return response
        try:
            await self._answers[question](getattr(request, question), response)
        except NotDescribed as failure:
            response.error_response.error_code = failure.code
            response.error_response.error_message = str(failure)
        return response

    async def _list_services(self, _asked: object, response: Any) -> None:
        for name in self._sources().services():
            response.list_services_response.service.add(name=name)

    async def _file_by_filename(self, filename: str, response: Any) -> None:
        found = self._sources().with_file(filename, beside=self._last)
        if found is None:
            raise NotDescribed(f"no file here is called {filename[:200]}")
        self._give(found, filename, response)

    async def _file_containing_symbol(self, asked: str, response: Any) -> None:
        symbol = asked.removeprefix(".")
        found = await self._sources().describing(symbol, beside=self._last)
        self._give(found, found.file_of(symbol), response)

    async def _file_containing_extension(self, asked: Any, response: Any) -> None:
        containing_type = asked.containing_type.removeprefix(".")
        found = await self._sources().describing(containing_type, beside=self._last)
        filename = found.file_of_extension(containing_type, asked.extension_number)
        if filename is None:
            raise NotDescribed(f"{containing_type} has no extension {asked.extension_number} here")
        self._give(found, filename, response)

    async def _all_extension_numbers(self, asked: str, response: Any) -> None:
        containing_type = asked.removeprefix(".")
        found = await self._sources().describing(containing_type, beside=self._last)
        numbers = found.extension_numbers(containing_type)
        if numbers is None:
            raise NotDescribed(f"{containing_type[:200]} is not a message")
        response.all_extension_numbers_response.base_type_name = containing_type
        response.all_extension_numbers_response.extension_number.extend(numbers)

    def _give(self, descriptors: Descriptors, filename: str | None, response: Any) -> None:
        assert filename is not None  # the descriptors were found by it
        self._last = descriptors
        response.file_descriptor_response.file_descriptor_proto.extend(descriptors.with_imports(filename))
