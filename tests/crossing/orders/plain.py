"""A plain function: JSON in, JSON out. It has never heard of gRPC."""

from __future__ import annotations

from typing import Any

ORDERS: dict[str, dict[str, Any]] = {
    "7": {"id": "7", "totalCents": "1250", "state": "SHIPPED", "notInTheProto": {"at": [1, 2]}},
}


class NotFound(Exception):
    pass


def handler(event: dict[str, Any], context: Any) -> Any:
    method = context.client_context.custom["grpc-method"].rpartition("/")[2]
    return METHODS[method](event, context.client_context.custom)


def get(event: dict[str, Any], custom: dict[str, str]) -> dict[str, Any]:
    if event["id"] not in ORDERS:
        raise NotFound(f"no order {event['id']}")
    return ORDERS[event["id"]] | {"note": custom.get("x-tenant", "")}


def fail(event: dict[str, Any], custom: dict[str, str]) -> None:
    raise type(event["type"], (Exception,), {})(event["message"])


METHODS: dict[str, Any] = {
    "Echo": lambda event, custom: event,
    "Get": get,
    "Fail": fail,
    "Ping": lambda event, custom: None,
}
