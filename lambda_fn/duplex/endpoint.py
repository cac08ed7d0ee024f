"""Answers an order to connect: the invocation lasts as long as the connection."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

from lambda_fn.duplex.connection import CannotAttach, connect
from lambda_fn.duplex.copying import copy
from lambda_fn.duplex.facts import AttachedCall
from lambda_fn.duplex.order import Allowed, BadOrder, Order, networks, read_order
from lambda_fn.status import Metadata

_logger = logging.getLogger("lambda_fn")

REASON = "grpc-lambda-bridge-duplex"
"""The header of the reply that says why the function did not connect."""
KEPT_MILLISECONDS = 500
"""What is left of the invocation when the function ends the connection by itself: enough to return."""


class Endpoint:
    """Follows orders of the bridge. May be used from any thread."""

    def __init__(self, allowed: Allowed, dial: Callable[[Order], socket.socket]) -> None:
        """`dial` connects to the gRPC server in this function; it may raise OSError or CannotAttach. Raises ValueError
        for an invalid network.
        """
        self._is_on = allowed is not False
        self._allowed = networks(allowed)
        self._dial = dial
        self._lock = Lock()
        self._attached: dict[str, tuple[Any, float | None]] = {}
        """Lambda's context and the end of the invocation (monotonic seconds), by request id."""

    def answer(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        """Connect as the event says, serve until the connection ends, and return the invocation's reply."""
        if not self._is_on:
            return _reply("off: the function has duplex=False")
        try:
            order = read_order(event)
        except BadOrder as error:
            _logger.warning("an order to connect to a bridge is not followed: %s", error)
            return _reply(f"refused: {error}")
        try:
            is_out_of_time = self._serve(order, context)
        except CannotAttach as error:
            _logger.warning("cannot connect to the bridge: %s", error)
            return _reply(str(error))
        if is_out_of_time:
            _logger.warning("the invocation's time is over: its connection to the bridge at %s ends", order.address)
        return _reply("")

    def call(self, method: str, metadata: Metadata, facts: Mapping[str, Any]) -> AttachedCall:
        """Return the call that these facts describe, with the context of the invocation that it came over."""
        lambda_context, ends = self._attached.get(str(facts.get("request") or ""), (None, None))
        return AttachedCall(method, metadata, facts, lambda_context, ends)

    def _serve(self, order: Order, context: Any) -> bool:
        remaining = _remaining(context)
        request_id = str(getattr(context, "aws_request_id", "") or "")
        ends = None if remaining is None else time.monotonic() + (remaining - KEPT_MILLISECONDS) / 1000
        server = self._dialled(order)
        try:
            bridge = connect(
                order,
                allowed=self._allowed,
                request_id=request_id,
                remaining=-1 if remaining is None else remaining,
            )
        except BaseException:
            server.close()
            raise
        with self._lock:
            self._attached[request_id] = (context, ends)
        try:
            return copy(bridge, server, lambda: ends)
        finally:
            with self._lock:
                self._attached.pop(request_id, None)

    def _dialled(self, order: Order) -> socket.socket:
        try:
            return self._dial(order)
        except OSError as error:
            raise CannotAttach(f"the function's own gRPC server cannot be reached: {error.strerror}") from error


def _remaining(context: Any) -> int | None:
    try:
        return int(context.get_remaining_time_in_millis())
    except AttributeError:
        return None


def _reply(reason: str) -> dict[str, Any]:
    headers = {REASON: reason[:500]} if reason else {}
    return {"statusCode": 200, "headers": headers, "body": "", "isBase64Encoded": False}
