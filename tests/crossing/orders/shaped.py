"""Functions as people have written them for other bridges: each gives back the message it gets, or fails as the
metadata asks.

`x-status` asks for a grpc-status in the headers, `x-http` for an HTTP status, `x-bare` for a body without prefix.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import Any


def envoy(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """For Envoy's aws_lambda filter, behind its gRPC reverse bridge: the bare message each way."""
    asked = event["headers"]
    headers = {
        "content-type": asked["content-type"],
        "x-seen": f"{event['method']} {event['raw_path']} {asked.get('x-sent', '')}",
    }
    if "x-http" in asked:
        return {"status_code": int(asked["x-http"]), "headers": {}, "body": "out of order"}
    if "x-status" in asked:
        headers |= {"grpc-status": asked["x-status"], "grpc-message": "as%20asked"}
    return {
        "status_code": 200,
        "headers": headers,
        "cookies": ["a=1", "b=2"],
        "body": event["body"],
        "is_base64_encoded": event["is_base64_encoded"],
    }


def coinbase(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Behind API Gateway: gRPC's own frames in base64, and nowhere to put trailers."""
    asked = event["headers"]
    headers = {"content-type": "application/grpc+proto", "x-seen": asked.get("x-sent", "")}
    if "x-status" in asked:
        headers |= {"grpc-status": asked["x-status"], "grpc-message": "as%20asked"}
        headers |= {"grpc-status-details-bin": asked.get("x-details", "")}
    body = b64decode(event["body"])
    if "x-bare" in asked:
        body = asked["x-bare"].encode()
    return {
        "statusCode": 200,
        "headers": headers,
        "multiValueHeaders": {"x-many": ["1", "2, 3"]},
        "body": b64encode(body).decode(),
        "isBase64Encoded": True,
    }


def rest(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """A JSON API behind a gateway or a load balancer."""
    asked = event["headers"]
    if "x-http" in asked:
        return {"statusCode": int(asked["x-http"]), "body": '{"message": "out of order"}'}
    headers = {"content-type": "application/json", "x-seen": asked.get("x-sent", "")}
    if "x-status" in asked:
        headers |= {"grpc-status": asked["x-status"], "grpc-message": "as%20asked"}
    order = json.loads(event["body"])
    return {"statusCode": 200, "headers": headers, "body": json.dumps(order | {"unknown": 1})}
