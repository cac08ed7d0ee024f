"""Decides where a message is converted: here, where calls are served, if that is cheap; else in a process of the pool.

The estimate counts the conversion's work, not only bytes: 16 KiB can be 8,000 messages. Cheap conversions are spread
over turns of the loop too, because many of them at once cost as much as a large one.
"""

from __future__ import annotations

import asyncio
from collections import deque

from google.protobuf.message import Message

from bridge.conversion.jobs import FromJson, PrintDetails, PrintMessage, ReadMessage, ToJson
from bridge.conversion.pool import ConversionPool
from bridge.rpc.buffers import SMALL, Account, Buffers
from bridge.rpc.errors import Overloaded
from bridge.rpc.value import FrozenValue
from bridge.services.descriptors import Descriptors
from bridge.services.transcode import Transcoder

MAX_HERE = 16 << 10
"""Bytes of a message or of JSON that may be converted where calls are served."""

CHEAP = 2000.0
"""Microseconds that one conversion there may take, by estimate, and all of one turn of the loop together."""

_TINY = 512
"""Bytes of a message that is parsed at once."""
_LOOK_PER_BYTE = 0.03
"""Microseconds that it takes to parse a message and to estimate its cost."""

_BASE_MEMORY = 16 << 20
"""Bytes that a conversion may take whatever its size."""
_MEMORY_PER_BYTE = 40
"""Of a message: itself, its parsed form, and its JSON. A message of 20 bytes with a map takes 500."""
_MEMORY_PER_JSON_BYTE = 6
"""Of JSON: itself, the same as Python's str, the message, and its bytes."""
_MEMORY_PER_OBJECT = 400
_MEMORY_PER_ITEM = 60
"""Of what json.loads makes of an object, with its message, and of a member or an element."""

_SAMPLES = 32
_SAMPLE = 2 << 10
"""Bytes of one sample of a large text."""


class LoopShare:
    """The time that conversions may take in one turn of the loop."""

    def __init__(self, most: float = CHEAP) -> None:
        """`most`: microseconds."""
        self._most = most
        self._spent = 0.0
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()

    def try_take(self, cost: float) -> bool:
        """Whether there is time for something that costs so much, which is taken then."""
        if self._waiting or (self._spent and self._spent + cost > self._most):
            return False
        self._spend(cost)
        return True

    async def take(self, cost: float) -> None:
        """Return when there is time for something that costs so much, in the order asked."""
        if not self.try_take(cost):
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((cost, turn))
            await turn

    def _spend(self, cost: float) -> None:
        if not self._spent:
            asyncio.get_running_loop().call_soon(self._begin_turn)
        self._spent += cost

    def _begin_turn(self) -> None:
        self._spent = 0.0
        while self._waiting:
            cost, turn = self._waiting[0]
            if turn.done():  # its call has ended
                self._waiting.popleft()
                continue
            if self._spent and self._spent + cost > self._most:
                return
            self._waiting.popleft()
            self._spend(cost)
            turn.set_result(None)


class Conversions:
    """What all targets of one bridge share to convert messages. Belongs to the running loop."""

    def __init__(self, *, buffers: Buffers, max_processes: int = 2) -> None:
        """`buffers`: where the memory of conversions counts."""
        self._pool = ConversionPool(buffers=buffers, max_processes=max_processes)
        self._share = LoopShare()

    @property
    def resident_bytes(self) -> int:
        """What the pool's processes hold in memory."""
        return self._pool.resident_bytes

    def converter(self, descriptors: Descriptors, *, proto_names: bool = False, defaults: bool = True) -> Converter:
        """For one target. `proto_names`, `defaults`: see Transcoder."""
        return Converter(
            descriptors,
            pool=self._pool,
            share=self._share,
            proto_names=proto_names,
            defaults=defaults,
        )

    def messages(self, descriptors: Descriptors) -> MessageConverter:
        """For the console: messages of any type, read and printed as a person does."""
        return MessageConverter(descriptors, pool=self._pool)

    async def teach(self) -> None:
        """Return when the processes that run know the descriptors of all converters."""
        await self._pool.teach()

    async def close(self) -> None:
        """End the processes. Fine at any time, and twice."""
        await self._pool.close()


class _Cheap(FrozenValue, frozen=True):
    """Which requests of a method are cheap (bytes)."""

    sure: int
    """Up to here each is."""
    most: int
    """Up to here one may be: its estimate says."""
    most_per_byte: float
    """Microseconds."""


class Converter:
    """The Transcode of one target."""

    def __init__(
        self,
        descriptors: Descriptors,
        *,
        pool: ConversionPool,
        share: LoopShare,
        proto_names: bool,
        defaults: bool,
    ) -> None:
        """`proto_names`, `defaults`: see Transcoder. `close` lets go of the descriptors."""
        self._transcoder = Transcoder(descriptors, proto_names=proto_names, defaults=defaults)
        self._pool = pool
        self._share = share
        self._set_id = pool.add(descriptors)
        self._proto_names = proto_names
        self._defaults = defaults
        self._cheap: dict[str, _Cheap] = {}

    def close(self) -> None:
        """No call will use it any more."""
        self._pool.remove(self._set_id)

    async def to_json(self, path: str, message: bytes, *, max_size: int, account: Account) -> bytes:
        """See Transcode."""
        cheap = self._cheap.get(path) or self._learn(path)
        request = None
        if len(message) <= cheap.sure:
            request, cost = (
                self._transcoder.parse_request(path, message),
                cheap.most_per_byte * len(message),
            )
        elif len(message) <= cheap.most:
            request, cost = await self._look(path, message)
        if request is None:
            return _held(await self._to_json_elsewhere(path, message, max_size), account)
        if not self._share.try_take(cost):
            await self._share.take(cost)
        return _held(self._transcoder.print_request(request, max_size=max_size, is_small=True), account)

    async def from_json(self, path: str, text: bytes, *, max_size: int, account: Account) -> bytes:
        """See Transcode."""
        if len(text) <= MAX_HERE:
            cost = self._transcoder.cost_of_reading(path, text)
            if cost <= CHEAP:
                if not self._share.try_take(cost):
                    await self._share.take(cost)
                return _held(self._transcoder.from_json(path, text, max_size=max_size), account)
        return _held(await self._from_json_elsewhere(path, text, max_size), account)

    def _learn(self, path: str) -> _Cheap:
        """Learn what this method's messages cost at most. Raises UnknownMethod, so that only methods are kept."""
        most = min(MAX_HERE, self._transcoder.most_parsed(path))
        most_per_byte = self._transcoder.most_per_byte(path)
        cheap = self._cheap[path] = _Cheap(min(most, int(CHEAP / most_per_byte)), most, most_per_byte)
        return cheap

    async def _look(self, path: str, message: bytes) -> tuple[Message | None, float]:
        """Return the message, parsed, and what printing it costs. A message that costs too much is left out."""
        if len(message) > _TINY:
            await self._share.take(_LOOK_PER_BYTE * len(message))
        request = self._transcoder.parse_request(path, message)
        cost = self._transcoder.cost_of_printing(request, most=CHEAP)
        return (request if cost <= CHEAP else None), cost

    async def _to_json_elsewhere(self, path: str, message: bytes, max_size: int) -> bytes:
        job = ToJson(
            set_id=self._set_id,
            path=path,
            max_size=max_size,
            memory=_memory_to_print(message),
            proto_names=self._proto_names,
            defaults=self._defaults,
        )
        return await self._pool.run(job, message)

    async def _from_json_elsewhere(self, path: str, text: bytes, max_size: int) -> bytes:
        job = FromJson(set_id=self._set_id, path=path, max_size=max_size, memory=_memory_for(text))
        try:
            return await self._pool.run(job, text)
        except Overloaded as error:
            error.may_have_run = True  # the function has answered
            raise


class MessageConverter:
    """Converts messages that a person writes and reads. Each conversion is done in another process: nobody is in such a
    hurry.
    """

    def __init__(self, descriptors: Descriptors, *, pool: ConversionPool) -> None:
        """`close` lets go of the descriptors."""
        self._pool = pool
        self._set_id = pool.add(descriptors)

    def close(self) -> None:
        """Nobody will use it any more."""
        self._pool.remove(self._set_id)

    async def read(self, name: str, text: bytes, *, max_size: int) -> bytes:
        """Return the message of this type that the JSON says. Raises as MessageJson.read, and as the pool does."""
        return await self._pool.run(ReadMessage(self._set_id, name, max_size, _memory_for(text)), text)

    async def print(self, name: str, message: bytes, *, max_size: int) -> bytes:
        """Return the message as JSON. Raises as MessageJson.print, and as the pool does."""
        return await self._pool.run(PrintMessage(self._set_id, name, max_size, _memory_to_print(message)), message)

    async def print_details(self, status: bytes) -> bytes:
        """Return the details of a google.rpc.Status as a JSON list. Raises as the pool does."""
        return await self._pool.run(PrintDetails(self._set_id, _memory_to_print(status)), status)


def _memory_to_print(message: bytes) -> int:
    """Bytes that it may take to make JSON of this message."""
    return _BASE_MEMORY + _MEMORY_PER_BYTE * len(message)


def _held(result: bytes, account: Account) -> bytes:
    if len(result) > SMALL:
        account.hold(len(result))
    return result


def _memory_for(text: bytes) -> int:
    """Bytes that it may take to read this JSON. A large text is judged by samples: counting all of it would take
    milliseconds.
    """
    size = len(text)
    sampled = text
    if size > _SAMPLES * _SAMPLE:
        step = size // _SAMPLES
        sampled = b"".join(text[at : at + _SAMPLE] for at in range(0, size, step))
    items = sampled.count(b",") + sampled.count(b"[") + sampled.count(b":")
    of_values = _MEMORY_PER_OBJECT * sampled.count(b"{") + _MEMORY_PER_ITEM * items
    return _BASE_MEMORY + _MEMORY_PER_JSON_BYTE * size + of_values * size // max(1, len(sampled))
