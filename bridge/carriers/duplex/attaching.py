"""Attaches one instance: the function is invoked with an order to connect, and its connection is waited for.

In: an invocation that lasts, and the connection that arrives with the token. Out: the instance, once its server has
spoken HTTP/2, or the error that says why it did not come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from bridge.carriers.duplex.attached import AttachedInstance, AttachedInstances, AttachedReply
from bridge.carriers.duplex.rendezvous import Arrived, InstanceArrival
from bridge.config.schema import Duplex
from bridge.rpc.errors import Bug, ConnectionLost, Draining, NotDuplex, RpcError, Unreachable

Invoke = Callable[[str], Awaitable[AttachedReply]]
"""Takes a token and runs the function with the order to connect, until it returns. Raises RpcError."""


class Meeting(Protocol):
    """Where functions connect, as bridge.carriers.duplex.rendezvous.Rendezvous says."""

    def expect(self, arrived: Arrived) -> str: ...
    def forget(self, token: str) -> None: ...


class Attacher:
    """Invokes one function. Belongs to the running loop."""

    def __init__(
        self,
        name: str,
        instances: AttachedInstances,
        *,
        invoke: Invoke,
        meeting: Meeting,
        address: str,
        settings: Duplex,
    ) -> None:
        """`name` is the function's in messages, `address` the one that functions connect to."""
        self._name = name
        self._instances = instances
        self._invoke = invoke
        self._meeting = meeting
        self._address = address
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._invocations: set[asyncio.Task[AttachedReply]] = set()

    @property
    def is_idle(self) -> bool:
        """Whether no invocation is under way."""
        return not self._invocations

    async def attach(self) -> AttachedInstance:
        """Invoke the function and return its instance. Raises what the invocation raises; Unreachable if it does not
        connect in time; NotDuplex if it does not know how.
        """
        arrived: asyncio.Future[AttachedInstance] = self._loop.create_future()

        def take(arrival: InstanceArrival) -> None:
            if arrived.done():
                arrival.transport.abort()
                return
            instance = self._instances.adopt(arrival)
            arrived.set_result(instance)
            invocation.add_done_callback(lambda ended: self._instances.invocation_ended(instance, ended))

        token = self._meeting.expect(take)
        invocation = self._loop.create_task(self._run(token))
        self._invocations.add(invocation)
        invocation.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(self._settings.attach):
                instance = await self._arrival(arrived, invocation)
                await instance.connection.wait_until_ready()
            self._refuse_useless(instance)
        except TimeoutError:
            late = self._too_late()
            self._give_up(token, arrived, invocation, late)
            raise late from None
        except asyncio.CancelledError:
            self._give_up(token, arrived, invocation, Draining("the bridge stops"))
            raise
        except RpcError as error:
            self._give_up(token, arrived, invocation, error)
            raise
        except Exception:
            self._give_up(token, arrived, invocation, Bug("internal error"))
            raise
        return instance

    async def close(self) -> None:
        """Wait for no reply any more. The functions return by themselves when their connections have ended."""
        for invocation in self._invocations:
            invocation.cancel()
        if self._invocations:
            await asyncio.wait(self._invocations)

    async def _run(self, token: str) -> AttachedReply:
        return await self._invoke(token)

    def _ended(self, invocation: asyncio.Task[AttachedReply]) -> None:
        self._invocations.discard(invocation)
        if not invocation.cancelled():
            invocation.exception()  # marks it as seen, whether or not anybody asks

    async def _arrival(
        self, arrived: asyncio.Future[AttachedInstance], invocation: asyncio.Task[AttachedReply]
    ) -> AttachedInstance:
        """Return the instance once it has connected. Raises what the invocation raises; NotDuplex, Unreachable."""
        await asyncio.wait((arrived, invocation), return_when=asyncio.FIRST_COMPLETED)
        if arrived.done():
            return arrived.result()
        try:
            reply = invocation.result()
        except ConnectionLost as error:
            # Nothing of a call has been sent. If the function runs and connects, it finds its token taken back.
            raise Unreachable(f"{self._name} has not connected, and the Invoke connection was lost: {error}") from error
        raise self._not_attached(reply)

    def _give_up(
        self,
        token: str,
        arrived: asyncio.Future[AttachedInstance],
        invocation: asyncio.Task[AttachedReply],
        error: RpcError,
    ) -> None:
        self._meeting.forget(token)
        if arrived.done():
            arrived.result().connection.abort(error)
        arrived.cancel()
        invocation.cancel()

    # -- why there is no instance --------------------------------------------------------------------------------------

    def _refuse_useless(self, instance: AttachedInstance) -> None:
        """Raise if the instance never takes a call. Otherwise calls that wait would have it invoked again and again."""
        connection = instance.connection
        takes_calls = not instance.is_leaving and connection.can_ever_take_more and connection.max_streams
        if not takes_calls and not connection.open_streams:
            raise Unreachable(
                f"{self._name} connects and takes no call: its gRPC server ends the connection at once, or allows no"
                " streams"
            )

    def _not_attached(self, reply: AttachedReply) -> RpcError:
        if not reply.knows_duplex:
            because = f" ({reply.reason})" if reply.reason else ""
            return NotDuplex(
                f"{self._name} does not connect to the bridge{because}: it needs grpc-lambda-fn with LambdaServer or"
                " forward, and duplex not switched off there"
            )
        return Unreachable(f"{self._name} did not connect to {self._address}: {reply.reason or 'it does not say why'}")

    def _too_late(self) -> Unreachable:
        return Unreachable(
            f"{self._name} did not connect to {self._address} within {self._settings.attach:g} s: check that its subnet"
            " has a route there, that the security groups allow the port, that the name is known there, and that it"
            " starts within that time"
        )
