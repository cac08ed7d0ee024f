"""Envoy with its grpc_web filter in front of a gRPC server: a gRPC-Web server that nobody here wrote."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.clients import tool
from tests.support.programs import free_port, wait_until_listening

_TYPES = "type.googleapis.com/envoy.extensions"
_FILTERS = f"{_TYPES}.filters"


@contextmanager
def grpc_web_envoy(folder: Path, server_port: int) -> Iterator[str]:
    """`host:port` of an Envoy that takes gRPC-Web over HTTP/1.1 for the server on this port. Skips the test without
    Envoy.
    """
    binary = tool("envoy")
    port = free_port()
    file = folder / "envoy.json"
    file.write_text(json.dumps(_config(port, server_port)))
    command = [binary, "-c", str(file), "--concurrency", "1", "-l", "error", "--use-dynamic-base-id"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_listening(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _config(port: int, server_port: int) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "server", "timeout": "0s"}}
    manager = {
        "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        "codec_type": "HTTP1",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "grpc_web", "typed_config": {"@type": f"{_FILTERS}.http.grpc_web.v3.GrpcWeb"}},
            {"name": "router", "typed_config": {"@type": f"{_FILTERS}.http.router.v3.Router"}},
        ],
    }
    listener = {
        "address": _address(port),
        "filter_chains": [{"filters": [{"name": "http_connection_manager", "typed_config": manager}]}],
    }
    options = {
        "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    endpoint = {"endpoint": {"address": _address(server_port)}}
    cluster = {
        "name": "server",
        "load_assignment": {
            "cluster_name": "server",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
