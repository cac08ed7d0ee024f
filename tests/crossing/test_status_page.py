"""The status page in headless Chromium, in front of bridges with one process and with two workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest

from lambda_fn.examples import helloworld_pb2, helloworld_pb2_grpc
from tests.support.bridge_process import running_bridge
from tests.support.byte_methods import unary_unary
from tests.support.clients import node_program, run

pytestmark = [pytest.mark.clients, pytest.mark.slow]

PAGE = Path(__file__).parent / "browser"
CALLS = 20
GREET = "/helloworld.Greeter/SayHello"
NOWHERE = "/nobody.Listens/Do"
TRACE = "0af7651916cd43dd8448eb211c80319c"
SECRET = "a-value-that-nobody-may-see"

FUNCTION = """
import grpc
from lambda_fn import LambdaServer
from lambda_fn.examples import helloworld_pb2, helloworld_pb2_grpc

class Greeter(helloworld_pb2_grpc.GreeterServicer):
    def SayHello(self, request, context):
        print("a greeting for", request.name)
        if request.name == "nobody":
            context.abort(grpc.StatusCode.NOT_FOUND, "<b>nobody</b> is here")
        return helloworld_pb2.HelloReply(message="hello")

server = LambdaServer()
helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
handler = server.handler
"""


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two workers"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a person would see after some calls, a failure of the function, and an outage of another target."""
    program = node_program("status.js", folder=PAGE)
    folder = tmp_path_factory.mktemp("status")
    (folder / "app.py").write_text(FUNCTION)
    config = {
        "workers": request.param,
        "services": {
            "helloworld.Greeter": "local:greeter",
            "nobody.Listens": {"target": "http://127.0.0.1:9", "headers": {"x-key": SECRET}, "timeout": "5s"},
        },
        "functions": {"greeter": {"handler": "app.handler", "env": {"PASSWORD": SECRET}}},
    }
    with running_bridge(folder, config) as bridge:
        for number in range(CALLS):
            # Each channel is a connection of its own, so that all workers have calls.
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(bridge.address, options) as channel:
                greeter = helloworld_pb2_grpc.GreeterStub(channel)
                greeter.SayHello(helloworld_pb2.HelloRequest(name=f"{number}"), timeout=30)
        with grpc.insecure_channel(bridge.address) as channel:
            parent = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),)
            for path, message in (
                (GREET, helloworld_pb2.HelloRequest(name="nobody").SerializeToString()),
                (NOWHERE, b""),
                ("/no.Such/Service", b""),
            ):
                with pytest.raises(grpc.RpcError):
                    unary_unary(channel, path)(message, timeout=20, metadata=parent)
        done = run([*program, f"http://{bridge.admin}/"])
    assert 0 == done.returncode, done.stderr
    played: dict[str, Any] = json.loads(done.stdout)
    return played


def test_nothing_is_loaded_from_elsewhere_and_nothing_breaks(seen: dict[str, Any]) -> None:
    """No request leaves the admin port; the policy of the page forbids nothing that it needs."""
    assert [] == seen["problems"]
    assert 1 == len({urlsplit(url).netloc for url in seen["requests"] if not url.startswith("data:")})
    assert "Ready" == seen["ready"]


def test_methods_and_targets_have_their_calls(seen: dict[str, Any]) -> None:
    """Those of all workers."""
    methods = {row["Method"]: row for row in seen["methods"]}
    targets = {row["Target"]: row for row in seen["targets"]}

    assert (str(CALLS + 1), "1") == (methods[GREET]["Calls"], methods[GREET]["Failed"])
    assert ("1", "1") == (methods[NOWHERE]["Calls, 5 min"], methods[NOWHERE]["Failed, 5 min"])
    assert str(CALLS + 1) == targets["local:greeter"]["Calls, 5 min"]
    assert "UNAVAILABLE" in targets["http://127.0.0.1:9"]["Last failure"]
    assert methods[GREET]["p50"]
    assert methods[NOWHERE]["p50"] == methods[NOWHERE]["p99"] != ""


def test_failures_say_why(seen: dict[str, Any]) -> None:
    """Texts of functions are shown and not obeyed."""
    failures = {row["Method"]: row for row in seen["failures"]}
    refusals = {row["Method"]: row for row in seen["refusals"]}

    assert ("NOT_FOUND", "<b>nobody</b> is here") == (failures[GREET]["Status"], failures[GREET]["Message"])
    assert ("local:greeter", TRACE) == (failures[GREET]["Target"], failures[GREET]["Trace id"])
    assert failures[GREET]["AWS request id"]
    assert "ConnectionRefusedError" in failures[NOWHERE]["Cause"]
    assert {"/no.Such/Service"} == set(refusals)
    assert GREET in {row["Method"] for row in seen["slow"]}


def test_it_is_live_and_its_plots_are_drawn(seen: dict[str, Any]) -> None:
    assert seen["updates"]
    assert seen["latency"].startswith("Latency: p50 ")


def test_it_can_be_used_with_the_keyboard(seen: dict[str, Any]) -> None:
    """A link selects a method, for the address too; plots are read with the arrow keys."""
    assert seen["selected"] == seen["methods"][0]["Method"] == GREET
    assert {GREET} == {row["Method"] for row in seen["failuresOfSelected"]}
    assert "method=" in seen["hash"]
    assert seen["hasCursor"]


def test_a_text_filters(seen: dict[str, Any]) -> None:
    assert [] == seen["filtered"]


def test_configuration_and_functions_are_shown(seen: dict[str, Any]) -> None:
    """Without secrets."""
    assert "nobody.Listens" in seen["configuration"]
    assert SECRET not in seen["configuration"]
    assert "greeter" in seen["functions"]
    assert "a greeting for nobody" in seen["functions"]


def test_texts_have_contrast_in_both_schemes(seen: dict[str, Any]) -> None:
    """WCAG 2.2 AA, wide and narrow; the theme can also be chosen."""
    assert {"light 1280": [], "light 360": [], "dark 1280": [], "dark 360": []} == seen["pale"]
    assert ["rgb(255, 255, 255)", "rgb(13, 17, 23)"] == seen["backs"]


def test_it_fits_a_phone(seen: dict[str, Any]) -> None:
    """Nothing but tables scrolls to the side."""
    assert all(pixels <= 0 for pixels in seen["wider"].values()), seen["wider"]
