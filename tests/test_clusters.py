"""deploy/ for clusters: the chart and its manifests, ECS tasks, the systemd unit, as their own checkers read them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator

from bridge.config.load import load
from bridge.config.units import parse_duration

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/grpc-lambda-bridge"
UNIT = DEPLOY / "systemd/grpc-lambda-bridge.service"
HELM = ROOT / ".cache/tools/bin/helm"
VALIDATE = ROOT / ".cache/tools/lint/bin/kubernetes-validate"
MODES = ("central", "sidecar")
TASKS = ("service", "sidecar")
APP = "app: {containers: [{name: app, image: 'app:1'}]}"

needs_helm = pytest.mark.skipif(not HELM.exists(), reason="helm is not there: bash .ci/tools installs it")


def run(*command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environ}, capture_output=True, text=True, check=False, timeout=60
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done


def resources(text: str) -> dict[str, Any]:
    """By kind. A manifest here has one of each."""
    found = [document for document in yaml.safe_load_all(text) if document]
    kinds = {document["kind"]: document for document in found}
    assert len(found) == len(kinds)
    return kinds


def rendered(tmp_path: Path, values: str) -> dict[str, Any]:
    (tmp_path / "values.yaml").write_text(values)
    command = (HELM, "template", "x", CHART, "--kube-version", "1.33.0", "-f", tmp_path / "values.yaml")
    return resources(run(*command).stdout)


def manifest(mode: str) -> dict[str, Any]:
    return resources((DEPLOY / f"kubernetes/{mode}.yaml").read_text())


def bridge_in(deployment: Any) -> Any:
    """The bridge's container, wherever it stands in the pod."""
    pod = deployment["spec"]["template"]["spec"]
    containers = [*pod["containers"], *pod.get("initContainers", [])]
    [found] = [one for one in containers if one["name"] == "grpc-lambda-bridge"]
    return found


# -- Kubernetes --------------------------------------------------------------------------------------------------------


@needs_helm
def test_the_chart_passes_its_linter() -> None:
    run(HELM, "lint", "--strict", CHART)


@needs_helm
def test_the_manifests_are_those_of_the_chart(tmp_path: Path) -> None:
    run(DEPLOY / "kubernetes/render", tmp_path, HELM=str(HELM))

    for mode in MODES:
        assert (tmp_path / f"{mode}.yaml").read_text() == (DEPLOY / f"kubernetes/{mode}.yaml").read_text()


@pytest.mark.skipif(not VALIDATE.exists(), reason="kubernetes-validate is not there: bash .ci/tools installs it")
@pytest.mark.parametrize("version", ["1.30", "1.34", "1.37"])
@pytest.mark.parametrize("mode", MODES)
def test_the_manifests_fit_kubernetes_schemas(mode: str, version: str) -> None:
    run(VALIDATE, "--strict", "-k", version, DEPLOY / f"kubernetes/{mode}.yaml")


@needs_helm
@pytest.mark.skipif(not VALIDATE.exists(), reason="kubernetes-validate is not there: bash .ci/tools installs it")
def test_every_value_of_the_chart_gives_valid_resources(tmp_path: Path) -> None:
    """With the optional ones in use."""
    values = """
    imagePullSecrets: [{name: registry}]
    secrets: [keys]
    env: [{name: AWS_REGION, value: eu-west-1}]
    serviceAccount: {annotations: {eks.amazonaws.com/role-arn: "arn:aws:iam::123456789012:role/bridge"}}
    service: {headless: false, annotations: {a: b}}
    networkPolicy: {clients: [{namespaceSelector: {}}], monitoring: [], egressPorts: [443, 8443]}
    autoscaling: {enabled: false}
    podAnnotations: {a: "1"}
    nodeSelector: {kubernetes.io/arch: arm64}
    tolerations: [{operator: Exists}]
    """
    found = rendered(tmp_path, values)
    for kind, resource in found.items():
        (tmp_path / f"{kind}.yaml").write_text(yaml.safe_dump(resource))
        run(VALIDATE, "--strict", tmp_path / f"{kind}.yaml")

    assert "HorizontalPodAutoscaler" not in found
    assert "clusterIP" not in found["Service"]["spec"]
    assert 3 == found["Deployment"]["spec"]["replicas"]
    assert [{"secretRef": {"name": "keys"}}] == bridge_in(found["Deployment"])["envFrom"]


@pytest.mark.parametrize("mode", MODES)
def test_the_configuration_in_a_manifest_is_one(mode: str, tmp_path: Path) -> None:
    """With the variables of its container. The bridge has time to drain before it is killed."""
    found = manifest(mode)
    path = tmp_path / "bridge.yaml"
    path.write_text(found["ConfigMap"]["data"]["bridge.yaml"])
    container = bridge_in(found["Deployment"])
    config = load(path, environ={one["name"]: one["value"] for one in container["env"]})

    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert str(config.listen[0].address).endswith(f":{ports['grpc']}")
    assert config.admin is not None
    assert ports["admin"] == config.admin.address.port
    assert (
        found["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        > config.drain + config.drain_delay
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_pod_has_no_more_rights_than_it_needs(mode: str) -> None:
    context = bridge_in(manifest(mode)["Deployment"])["securityContext"]

    assert context == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert manifest(mode)["ServiceAccount"]["automountServiceAccountToken"] is False


def test_a_central_bridge_has_all_that_a_shared_service_needs() -> None:
    found = manifest("central")
    container = bridge_in(found["Deployment"])
    spread = found["Deployment"]["spec"]["template"]["spec"]["topologySpreadConstraints"]
    metrics = found["HorizontalPodAutoscaler"]["spec"]["metrics"]

    assert {"port": 50051} == container["readinessProbe"]["grpc"]
    assert {"port": 50051} == container["startupProbe"]["grpc"]
    assert ["topology.kubernetes.io/zone", "kubernetes.io/hostname"] == [one["topologyKey"] for one in spread]
    assert "bridge_in_flight" == metrics[0]["pods"]["metric"]["name"]
    assert "| `bridge_in_flight` |" in (ROOT / "docs/metrics.md").read_text()
    assert {"PodDisruptionBudget", "NetworkPolicy", "Service"} <= found.keys()
    assert "None" == found["Service"]["spec"]["clusterIP"]


def test_a_sidecar_is_native_and_only_its_pod_can_call_it() -> None:
    """It starts before the app, and ends after it (Kubernetes, "Sidecar containers")."""
    [sidecar] = manifest("sidecar")["Deployment"]["spec"]["template"]["spec"]["initContainers"]

    assert "Always" == sidecar["restartPolicy"]
    assert {"name": "BRIDGE_LISTEN", "value": "127.0.0.1:50051"} in sidecar["env"]
    assert "Service" not in manifest("sidecar")


@needs_helm
@pytest.mark.parametrize(
    ("values", "said"), [("mode: sidecar", "app.containers"), ("mode: other", "mode is central or sidecar")]
)
def test_values_that_make_no_sense_are_said(tmp_path: Path, values: str, said: str) -> None:
    (tmp_path / "values.yaml").write_text(values)
    command = (HELM, "template", "x", CHART, "--kube-version", "1.33.0", "-f", tmp_path / "values.yaml")
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert 0 != done.returncode
    assert said in done.stderr


# -- ECS ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_an_ecs_task_fits_the_api(name: str) -> None:
    """As botocore, which is AWS's own model of the API, would check it before a request."""
    task = json.loads((DEPLOY / f"ecs/{name}.json").read_text())
    model = botocore.session.Session().get_service_model("ecs").operation_model("RegisterTaskDefinition")

    assert "" == ParamValidator().validate(task, model.input_shape).generate_report()


@pytest.mark.parametrize("name", TASKS)
def test_the_container_of_a_task_starts_the_bridge_with_its_configuration(name: str, tmp_path: Path) -> None:
    """The command runs with a program in the bridge's place, which shows the file that it was given."""
    containers = json.loads((DEPLOY / f"ecs/{name}.json").read_text())["containerDefinitions"]
    bridge = containers[0]
    environ = {one["name"]: one["value"] for one in bridge["environment"]}
    path = tmp_path / "bridge.yaml"
    fake = tmp_path / "grpc-lambda-bridge"
    fake.write_text('#!/bin/sh\necho "$1"\n')
    fake.chmod(0o755)
    command = bridge["command"][0].replace(environ["BRIDGE_CONFIG"], str(path))
    done = run(*bridge["entryPoint"], command, **environ, PATH=f"{tmp_path}:{os.environ['PATH']}")
    config = load(path, environ=environ)

    assert "serve\n" == done.stdout
    assert environ["BRIDGE_CONFIG"].startswith("/dev/shm/")  # the only place that a task without volumes can write to
    assert bridge["stopTimeout"] > config.drain
    assert ("127.0.0.1:50051" == str(config.listen[0].address)) is (name == "sidecar")


def test_the_app_of_a_task_starts_behind_its_bridge() -> None:
    [_, app] = json.loads((DEPLOY / "ecs/sidecar.json").read_text())["containerDefinitions"]

    assert [{"containerName": "grpc-lambda-bridge", "condition": "HEALTHY"}] == app["dependsOn"]


# -- systemd -----------------------------------------------------------------------------------------------------------

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not there")


@needs_systemd
def test_the_unit_is_well_formed(tmp_path: Path) -> None:
    """With a program that exists in the bridge's place."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/grpc-lambda-bridge/bin/grpc-lambda-bridge", "/bin/true"))
    done = run("systemd-analyze", "verify", "--man=no", unit)

    assert "" == done.stderr


@needs_systemd
def test_the_unit_is_hardened() -> None:
    """`systemd-analyze security` rates it at 1.4; 10 is a unit without any of it."""
    run("systemd-analyze", "security", "--offline=true", "--threshold=20", UNIT)


def test_the_unit_lets_calls_end() -> None:
    [stop] = [line.partition("=")[2] for line in UNIT.read_text().splitlines() if line.startswith("TimeoutStopSec=")]

    assert float(stop) > parse_duration("25s")
