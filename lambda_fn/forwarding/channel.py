"""KeptChannel: one channel to the target, kept from invocation to invocation while its connection can be trusted.

Lambda freezes the process between invocations, and what kept the connection alive goes on without us: NAT gateways and
servers forget it silently. A frozen process does not notice the time either, so idleness is told by the wall clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import grpc

from lambda_fn.forwarding.target import Target

MAX_IDLE = 60.0
"""Seconds without a call after which a channel is not trusted any more."""

_MAX_REPLY = 200 << 20
"""Bytes of one reply message: the largest reply that Lambda streams (Lambda quotas, "response streaming")."""

_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", _MAX_REPLY),
    # Connections of other channels to the same address would outlive a rebuilt one.
    ("grpc.use_local_subchannel_pool", 1),
    # grpc keeps a header that it cannot parse in the connection's table, and then fails every later call whose reply
    # has a header of that name (grpc/grpc#34721). Without a table, what one reply holds is nothing to the others.
    ("grpc.http2.hpack_table_size.decoder", 0),
    # A call during the wait between attempts fails without trying; grpc's own waits grow to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class KeptChannel:
    """May be used from any thread."""

    def __init__(
        self,
        target: Target,
        options: Sequence[tuple[str, Any]] = (),
        *,
        now: Callable[[], float] = time.time,  # noqa: TID251 - the wall clock goes on while Lambda freezes us
    ) -> None:
        self.target = target
        given = dict(_OPTIONS)
        if target.is_here:
            given["grpc.enable_http_proxy"] = 0
        self._options = tuple((given | dict(options)).items())
        self._now = now
        self._lock = Lock()
        self._channel: grpc.Channel | None = None
        self._used_at = 0.0
        self._users = 0

    @contextmanager
    def use(self) -> Iterator[grpc.Channel]:
        """Yield the channel, for one call."""
        with self._lock:
            if self._users == 0 and self._now() - self._used_at > MAX_IDLE:
                self._drop()
            if self._channel is None:
                self._channel = self._open()
            channel = self._channel
            self._users += 1
        try:
            yield channel
        finally:
            with self._lock:
                self._users -= 1
                self._used_at = self._now()

    def reach(self, target: Target) -> None:
        """Dial this target from now on, which is of the same kind. Calls in flight end as CANCELLED."""
        with self._lock:
            self.target = target
            self._drop()

    def close(self) -> None:
        """Close the channel; the next call opens another. Calls in flight end as CANCELLED."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _open(self) -> grpc.Channel:
        if self.target.credentials is None:
            return grpc.insecure_channel(self.target.address, self._options)
        return grpc.secure_channel(self.target.address, self.target.credentials, self._options)
