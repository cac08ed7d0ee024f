"""The rules and the dashboard of deploy/monitoring, in front of a real Prometheus that scrapes a bridge."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from lambda_fn.examples import helloworld_pb2
from tests.support.bridge_process import plain_environment, running_bridge
from tests.support.byte_methods import unary_unary
from tests.support.clients import run, tool

pytestmark = [pytest.mark.clients, pytest.mark.slow]

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
QUERIES = {
    f"{panel['title']}: {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}
TRACE = "0af7651916cd43dd8448eb211c80319c"
SECONDS = 60.0
FUNCTION = """
import time
from lambda_fn import LambdaServer
from lambda_fn.examples import helloworld_pb2, helloworld_pb2_grpc

class Greeter(helloworld_pb2_grpc.GreeterServicer):
    def SayHello(self, request, context):
        time.sleep(0.2)
        return helloworld_pb2.HelloReply(message="hello")

server = LambdaServer()
helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
handler = server.handler
"""


def call(address: str, path: str) -> None:
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        message = helloworld_pb2.HelloRequest(name="x").SerializeToString()
        try:
            unary_unary(channel, path)(
                message, timeout=20, metadata=(("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),)
            )
        except grpc.RpcError:
            pass  # some are meant to fail


def make_traffic(address: str) -> None:
    """Calls that succeed, wait, are throttled and refused; a client of HTTP/1.1; more connections than one client may
    have.
    """
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: call(address, "/helloworld.Greeter/SayHello"), range(16)))
    call(address, "/no.Such/Service")
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as odd:
        odd.sendall(b"GET / HTTP/1.1\r\n\r\n")
        odd.recv(1000)
    with ExitStack() as held:
        for _ in range(30):
            held.enter_context(socket.create_connection((host, int(port)), timeout=5))


class Prometheus:
    """A server that scrapes a bridge."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API. Raises urllib's HTTPError for a query that is wrong."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)["data"]

    def result(self, expression: str) -> list[Any]:
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that has scraped a bridge before, between and after its calls."""
    program = tool("prometheus")
    folder = tmp_path_factory.mktemp("monitoring")
    (folder / "app.py").write_text(FUNCTION)
    config = {
        "services": {"helloworld.Greeter": "local:greeter", "aws.Something": "function:something"},
        "functions": {"greeter": {"handler": "app.handler", "concurrency": 1}},
        "defaults": {"queue": {"calls": 2, "wait": "1s"}},
        "max_connections": {"per_peer": 20},
        "aws": {"region": "eu-west-1"},
    }
    environ = plain_environment() | {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}
    with running_bridge(folder, config, environ=environ) as bridge, socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        reserved.close()
        settings = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(MONITORING / "rules.yaml")],
            "scrape_configs": [{"job_name": "bridge", "static_configs": [{"targets": [bridge.admin]}]}],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
        command = [
            program,
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
            "--enable-feature=exemplar-storage",
            "--log.level=error",
        ]
        process = subprocess.Popen(command)
        try:
            server = Prometheus(address)
            wait_for(server, "bridge_build_info")
            for _ in range(3):  # rates need several scrapes in which the counts exist
                make_traffic(bridge.address)
                time.sleep(1.5)
            wait_for(server, "rate(bridge_throttles_total[30s])")
            yield server
        finally:
            process.terminate()
            process.wait(20)


def wait_for(server: Prometheus, expression: str) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            if server.result(expression):
                return
        except OSError:
            pass  # it starts
        time.sleep(0.2)
    raise AssertionError(f"{expression} has no result")


def test_the_rules_are_valid() -> None:
    done = run([tool("promtool"), "check", "rules", str(MONITORING / "rules.yaml")])

    assert 0 == done.returncode, done.stdout + done.stderr


def test_the_alerts_fire_when_they_should() -> None:
    """And not before; for other jobs neither."""
    done = run([tool("promtool"), "test", "rules", str(MONITORING / "rules_test.yaml")])

    assert 0 == done.returncode, done.stdout + done.stderr


def test_every_alert_has_a_test() -> None:
    rules = yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"][0]["rules"]
    tests = yaml.safe_load((MONITORING / "rules_test.yaml").read_text())["tests"]
    tested = {each["alertname"] for test in tests for each in test["alert_rule_test"] if each["exp_alerts"]}

    assert {rule["alert"] for rule in rules if "alert" in rule} == tested


@pytest.mark.parametrize("query", QUERIES)
def test_each_query_of_the_dashboard_has_data(prometheus: Prometheus, query: str) -> None:
    """A metric that was renamed, or a label that is wrong, leaves its panel empty."""
    expression = QUERIES[query].replace("$job", "bridge").replace("$__rate_interval", "30s")

    assert prometheus.result(expression), expression


def test_no_rule_fails(prometheus: Prometheus) -> None:
    """Prometheus itself evaluates them."""
    (group,) = prometheus.ask("rules")["groups"]

    assert [] == [rule["lastError"] for rule in group["rules"] if rule.get("lastError")]


@pytest.mark.parametrize("metric", ["grpc_server_handling_seconds_bucket", "grpc_server_handled_total"])
def test_exemplars_lead_to_traces(prometheus: Prometheus, metric: str) -> None:
    """Prometheus asks for OpenMetrics by itself and keeps them."""
    found = prometheus.ask("query_exemplars", query=metric, start="0", end="4000000000")
    traces = {each["labels"]["trace_id"] for series in found for each in series["exemplars"]}

    assert {TRACE} == traces
