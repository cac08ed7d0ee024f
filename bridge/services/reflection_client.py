"""The conversation in which a target describes itself: gRPC server reflection from the client's end.

A few exchanges of several questions each: what is listed, what that needs, what that needs in turn. Whatever a target
says, the number of questions, files and bytes is bounded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError

from bridge.rpc.errors import BadReply, ReplyTooLarge
from bridge.rpc.value import FrozenValue
from bridge.services.builtin import METHODS, message_class
from bridge.services.descriptors import MAX_SIZE, Descriptors, well_known_file
from bridge.services.proto_folder import MAX_FILES


class ReflectionLimits(FrozenValue, frozen=True):
    """What a target may say of itself, and how often it is asked."""

    rounds: int = 8
    """Exchanges with one target."""
    requests: int = 500
    """Requests in one exchange."""
    size: int = MAX_SIZE
    """Bytes of all descriptors."""
    files: int = MAX_FILES


async def describe_target(
    ask: Callable[[list[bytes]], Awaitable[list[bytes]]],
    service: str,
    *,
    name: str,
    limits: ReflectionLimits | None = None,
) -> Descriptors:
    """All that the target describes; `service` is asked for at once, `name` stands for the target in messages.

    Raises BadDescriptors, BadReply, ReplyTooLarge and what `ask` raises.
    """
    limits = limits or ReflectionLimits()
    answers = _Answers(limits)
    requests = [_request(list_services="*"), _request(file_containing_symbol=service)]
    answers.asked.add(service)
    for _ in range(limits.rounds):
        for response in await ask([request.SerializeToString() for request in requests]):
            answers.take(response)
        requests = answers.open_questions()
        if not requests:
            break
    return Descriptors(answers.files.values(), name=name)


class _Answers:
    """What has been learnt so far, and what is still open."""

    def __init__(self, limits: ReflectionLimits) -> None:
        self._limits = limits
        self.files: dict[str, bytes] = {}
        self.asked: set[str] = set()
        """Names of services and files."""
        self._size = 0
        self._listed: dict[str, None] = {}
        self._described: set[str] = set()
        self._imported: dict[str, None] = {}

    def take(self, response: bytes) -> None:
        try:
            answer = message_class("grpc.reflection.v1.ServerReflectionResponse").FromString(response)
            # An error answers one question of several; what it left open shows in the end.
            self._listed |= dict.fromkeys(_ours(answer.list_services_response.service))
            for file in answer.file_descriptor_response.file_descriptor_proto:
                self._keep(file)
        except DecodeError as error:
            raise BadReply("a reflection answer does not decode") from error

    def _keep(self, file: bytes) -> None:
        parsed = FileDescriptorProto.FromString(file)
        if parsed.name in self.files:
            return
        self._size += len(file)
        limits = self._limits
        if self._size > limits.size or len(self.files) >= limits.files:
            raise ReplyTooLarge(f"the descriptors are more than {limits.size} bytes or {limits.files} files")
        self.files[parsed.name] = file
        self._imported |= dict.fromkeys(parsed.dependency)
        prefix = f"{parsed.package}." if parsed.package else ""
        self._described |= {prefix + service.name for service in parsed.service}

    def open_questions(self) -> list[Any]:
        """Return requests for what has been named but not described. Each is asked once."""
        # Imports first: without one of them nothing can be used, without one service the others can.
        files = [
            name
            for name in self._imported
            if name not in self.files.keys() | self.asked and well_known_file(name) is None
        ]
        services = [name for name in self._listed if name not in self._described | self.asked]
        questions = [("file_by_filename", name) for name in files]
        questions += [("file_containing_symbol", name) for name in services]
        now_asked = questions[: self._limits.requests]
        self.asked |= {name for _, name in now_asked}
        return [_request(**{question: name}) for question, name in now_asked]


def _ours(services: Iterable[Any]) -> list[str]:
    """Return the services a target lists but those that the bridge answers itself."""
    return [service.name for service in services if service.name not in METHODS]


def _request(**question: str) -> Any:
    return message_class("grpc.reflection.v1.ServerReflectionRequest")(**question)
