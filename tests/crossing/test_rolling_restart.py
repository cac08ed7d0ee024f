"""A rolling restart loses no call: two bridges behind a load balancer, replaced one after the other."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import grpc
import pytest

from lambda_fn.examples import echo_pb2, helloworld_pb2
from tests.support.bridge_process import EXAMPLES, RunningBridge, running_bridge
from tests.support.clients import tool
from tests.support.programs import free_port, wait_until_listening

pytestmark = [pytest.mark.slow, pytest.mark.clients, pytest.mark.timeout(300)]

CALLERS = 6
ENVOY = "type.googleapis.com/envoy.extensions"


# -- Envoy ------------------------------------------------------------------------------------------------


@contextmanager
def running(command: list[str], port: int) -> Iterator[str]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_listening(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def envoy(folder: Path, ports: tuple[int, ...]) -> AbstractContextManager[str]:
    """It asks the bridges' health service, so it sends no more calls to one that drains."""
    port = free_port()
    manager = {
        "@type": f"{ENVOY}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "grpc",
        "codec_type": "HTTP2",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "bridges", "timeout": "0s"}}],
                }
            ]
        },
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{ENVOY}.filters.http.router.v3.Router"}}],
    }
    cluster = {
        "name": "bridges",
        "load_assignment": {
            "cluster_name": "bridges",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(one)}} for one in ports]}],
        },
        "health_checks": [
            {
                "timeout": "1s",
                "interval": "0.2s",
                "no_traffic_interval": "0.2s",
                "unhealthy_threshold": 1,
                "healthy_threshold": 1,
                "grpc_health_check": {},
            }
        ],
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{ENVOY}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }
    listener = {
        "address": address(port),
        "filter_chains": [{"filters": [{"name": "http_connection_manager", "typed_config": manager}]}],
    }
    file = folder / "envoy.json"
    file.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    binary = str(tool("envoy"))
    return running([binary, "-c", str(file), "--concurrency", "1", "-l", "error", "--use-dynamic-base-id"], port)


# -- nginx -------------------------------------------------------------------------------------------------------------


def nginx(folder: Path, ports: tuple[int, ...]) -> AbstractContextManager[str]:
    """It asks nobody: it notices that a bridge is gone when it cannot connect, and goes to the other one."""
    port = free_port()
    servers = "".join(f"server 127.0.0.1:{one} max_fails=1 fail_timeout=1s; " for one in ports)
    file = folder / "nginx.conf"
    file.write_text(
        f"""
        daemon off;
        worker_processes 1;
        pid {folder}/nginx.pid;
        error_log {folder}/nginx.log;
        events {{ worker_connections 1024; }}
        http {{
          access_log off;
          client_body_temp_path {folder}/body;
          proxy_temp_path {folder}/proxy;
          fastcgi_temp_path {folder}/fastcgi;
          uwsgi_temp_path {folder}/uwsgi;
          scgi_temp_path {folder}/scgi;
          upstream bridges {{ {servers} keepalive 8; }}
          server {{
            listen 127.0.0.1:{port} http2;
            keepalive_requests 100000;
            location / {{ grpc_pass grpc://bridges; }}
          }}
        }}
        """
    )
    return running([str(tool("nginx")), "-p", str(folder), "-c", str(file), "-e", str(folder / "nginx.log")], port)


# -- the calls ---------------------------------------------------------------------------------------------------------


class Callers:
    """Threads that call without a pause, unary and server streaming. Each outcome is counted."""

    def __init__(self, target: str) -> None:
        self.outcomes: Counter[str] = Counter()
        self._target = target
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(CALLERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more: int) -> None:
        """Return after so many further calls."""
        until = self.outcomes.total() + more
        ends = time.monotonic() + 60
        while self.outcomes.total() < until and time.monotonic() < ends:
            time.sleep(0.02)

    def _call(self, number: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        with grpc.insecure_channel(self._target, options=options) as channel:
            hello = channel.unary_unary(
                "/helloworld.Greeter/SayHello",
                request_serializer=helloworld_pb2.HelloRequest.SerializeToString,
                response_deserializer=helloworld_pb2.HelloReply.FromString,
            )
            count = channel.unary_stream(
                "/dev.Echo/ServerStream",
                request_serializer=echo_pb2.EchoRequest.SerializeToString,
                response_deserializer=echo_pb2.EchoReply.FromString,
            )
            while not self._ends.is_set():
                try:
                    if number % 2:
                        hello(helloworld_pb2.HelloRequest(name="x"), timeout=30)
                    else:
                        list(count(echo_pb2.EchoRequest(text="x", count=3), timeout=30))
                    self.outcomes["OK"] += 1
                except grpc.RpcError as error:
                    self.outcomes[f"{error.code().name}: {error.details()}"] += 1


@pytest.mark.parametrize(("balancer", "drain_delay"), [(envoy, "3s"), (nginx, "200ms")], ids=["envoy", "nginx"])
def test_a_rolling_restart_loses_no_call(
    balancer: Callable[[Path, tuple[int, ...]], AbstractContextManager[str]], drain_delay: str, tmp_path: Path
) -> None:
    """Each bridge ends by SIGTERM, as an orchestrator ends it, and another one takes its port. The next one ends when
    that one serves calls.
    """
    ports = (free_port(), free_port())

    def bridge(number: int, name: str) -> AbstractContextManager[RunningBridge]:
        folder = tmp_path / name
        folder.mkdir()
        listen = {"listen": f"127.0.0.1:{ports[number]}", "drain": "20s", "drain_delay": drain_delay}
        return running_bridge(folder, {**EXAMPLES, **listen})

    with ExitStack() as stack:
        first, second = (stack.enter_context(bridge(number, f"old-{number}")) for number in (0, 1))
        target = stack.enter_context(balancer(tmp_path, ports))
        callers = stack.enter_context(Callers(target))
        callers.wait_for(200)
        for number, old in enumerate((first, second)):
            assert 0 == old.stop()
            callers.wait_for(100)
            new = stack.enter_context(bridge(number, f"new-{number}"))
            new.wait_for_log("/helloworld.Greeter/SayHello")  # ready, and the load balancer knows it
            callers.wait_for(200)
        callers.stop()

    assert ["OK"] == list(callers.outcomes), callers.outcomes
    assert callers.outcomes["OK"] >= 800
