"""What is shipped below deploy/: linters accept it, and all that it names is there."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from celery.bin.base import CLIContext

from feedmill import metrics, settings
from feedmill.cli.main import main
from feedmill.fanout.publisher import ALL_QUEUES
from feedmill.tasks import app
from tests.conftest import needed
from tests.deployments import (
    DEPLOY,
    INSTANCES,
    MANIFESTS,
    ROOT,
    UNITS,
    WAYS,
    Program,
    commands_of,
    compose_file,
    manifests,
    option,
)

PROGRAMS = [pytest.param(each, id=f"{way}: {each.where}") for way, found in WAYS.items() for each in found()]


def tool(name: str, source: str) -> str:
    """A program beside the interpreter, or on the path."""
    beside = Path(sys.executable).with_name(name)
    return needed(str(beside) if beside.exists() else shutil.which(name), f"no {name}; {source}")


def accepted(*command: str, **more: Any) -> str:
    """What a program prints that must find nothing wrong."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# -- linters


def test_the_dockerfile_is_accepted() -> None:
    """hadolint finds nothing."""
    accepted(tool("hadolint", "pip install 'feedmill[deploy]'"), str(DEPLOY / "Dockerfile"))


def test_the_image_is_made_of_what_the_builder_is_sent() -> None:
    """What the Dockerfile copies from here exists, and .dockerignore lets it through."""
    text = (DEPLOY / "Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE) for word in line.split()]
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied and {word.split("/")[0] for word in copied} == let_through
    assert all((ROOT / word).exists() for word in copied)


def test_the_compose_file_is_accepted() -> None:
    """It has the shape that the Compose specification describes, and mounts what is there."""
    name = tool("check-jsonschema", "pip install 'feedmill[deploy]'")
    accepted(name, "--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml"))
    services = compose_file()["services"]
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in compose_file()["volumes"]
        assert "healthcheck" in service and service["restart"] == "unless-stopped"
        assert "memory" in service["deploy"]["resources"]["limits"] if "deploy" in service else "build" in service
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_the_units_are_accepted(tmp_path: Path) -> None:
    """systemd reads every line of the units, where the site is installed."""
    program = needed(shutil.which("systemd-analyze"), "no systemd-analyze; apt-get install systemd")
    for path in [*UNITS.glob("*.service"), *UNITS.glob("*.target")]:
        here = path.read_text().replace("/srv/site/.venv/bin", str(Path(sys.executable).parent))
        (tmp_path / path.name).write_text(here)
    wanted = re.findall(r"feedmill-\S+\.service", (UNITS / "feedmill.target").read_text())
    units = {*wanted, *(f"feedmill-worker@{each}.service" for each in INSTANCES), "feedmill.target"}
    said = accepted(program, "verify", "--man=no", *(str(tmp_path / each) for each in sorted(units)))
    assert str(tmp_path) not in said
    for unit in sorted(units - {"feedmill.target"}):
        found = subprocess.run(
            [program, "security", "--offline=yes", "--threshold=25", unit],
            env={**os.environ, "SYSTEMD_UNIT_PATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stdout[-300:] + found.stderr


def test_the_manifests_are_accepted() -> None:
    """Each has the shape of its kind, with no field that does not exist, in the oldest and newest release of Kubernetes that is checked."""
    library = pytest.importorskip("kubernetes_validate") if os.environ.get("CI") != "true" else None
    if library is None:
        import kubernetes_validate as library
    kinds = set()
    for where, each in manifests():
        if each["apiVersion"] == "keda.sh/v1alpha1":
            continue
        kinds.add(each["kind"])
        for version in ("1.29", library.latest_version()):
            library.validate(each, version, strict=True)
        assert "namespace" not in each["metadata"], where
    assert kinds == {"ConfigMap", "Secret", "Deployment", "Service", "PodDisruptionBudget"}


@pytest.mark.parametrize("folder", ["base", "autoscaled"])
def test_kustomize_builds(folder: str) -> None:
    """kubectl puts the manifests together; the image is the one that is named there, and KEDA alone sets the number of its workers."""
    program = tool("kubectl", "pip install 'feedmill[deploy]'")
    built = list(yaml.safe_load_all(accepted(program, "kustomize", str(MANIFESTS / folder))))
    deployed = {each["metadata"]["name"]: each for each in built if each["kind"] == "Deployment"}
    shipped = {each["metadata"]["name"] for _, each in manifests() if each["kind"] == "Deployment"}
    assert set(deployed) == shipped
    for each in deployed.values():
        (container,) = each["spec"]["template"]["spec"]["containers"]
        assert container["image"] == "registry.example.com/site:1"
    scaled = {each["spec"]["scaleTargetRef"]["name"] for each in built if each["kind"] == "ScaledObject"}
    without = {name for name, each in deployed.items() if "replicas" not in each["spec"]}
    assert scaled == without == (set() if folder == "base" else {"feedmill-worker-high", "feedmill-worker-low"})


def test_prometheus_of_the_compose_file_is_configured() -> None:
    """promtool accepts the configuration; it scrapes services that there are, at the ports where they serve."""
    program = needed(shutil.which("promtool"), "no promtool; apt-get install prometheus")
    accepted(program, "check", "config", str(DEPLOY / "prometheus" / "compose.yml"))
    counted, stored = yaml.safe_load((DEPLOY / "prometheus" / "compose.yml").read_text())["scrape_configs"]
    services = compose_file()["services"]
    serving = {name for name, each in services.items() if "METRICS_PORT" in dict(each.get("environment", {}))}
    (found,) = counted["dns_sd_configs"]
    assert set(found["names"]) == serving
    assert {services[name]["environment"]["METRICS_PORT"] for name in serving} == {str(found["port"])}
    assert stored["static_configs"] == [{"targets": [f"exporter:{option(services['exporter']['command'], '--serve')}"]}]


def test_prometheus_scrapes_the_ports_of_the_units() -> None:
    """The example of a configuration names the ports that the files of the units set."""
    (job,) = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    scraped = {target.rpartition(":")[2] for each in job["static_configs"] for target in each["targets"]}
    workers = {each.environment["METRICS_PORT"] for each in WAYS["systemd"]() if "METRICS_PORT" in each.environment}
    (exporter,) = (option(each.words, "--serve") for each in WAYS["systemd"]() if "--serve" in each.words)
    assert len(workers) == len(INSTANCES) and exporter not in workers
    assert scraped == {*workers, exporter, "8000"}


def test_grafana_finds_the_dashboard() -> None:
    """What is provisioned is mounted where it is looked for."""
    grafana = compose_file()["services"]["grafana"]
    mounted = dict(each.split(":")[:2] for each in grafana["volumes"])
    (provider,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/feedmill.yml").read_text())["providers"]
    dashboard = Path(mounted["./grafana/feedmill.json"])
    assert dashboard.parent == Path(provider["options"]["path"])
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == str(dashboard)
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    board = json.loads((DEPLOY / "grafana/feedmill.json").read_text())
    assert source["type"] in {each["query"] for each in board["templating"]["list"] if each["type"] == "datasource"}
    assert source["url"] == "http://prometheus:9090" and "prometheus" in compose_file()["services"]


# -- what is named


def parsed(words: list[str]) -> None:
    """Have the program that *words* start read its arguments, as it does when it is started."""
    name, arguments = words[0], words[1:]
    if name == "python":
        assert arguments[0] == "-c"
        ast.parse(arguments[1])
        return
    command: click.Command
    state: Any = None
    if name == "feedmill":
        command = main
    elif name == "celery":
        from celery.bin.celery import celery as command

        assert option(words, "-A") == "feedmill.tasks"
        state = CLIContext(app, True, ".")
    else:
        assert name == "uvicorn", name
        from uvicorn.main import main as command
    while isinstance(command, click.Group):
        context = click.Context(command, info_name=name)
        _, left, _ = command.make_parser(context).parse_args(list(arguments))
        found, inner, arguments = command.resolve_command(context, left)
        assert inner is not None, f"{found} is no command of {name}"
        command, name = inner, f"{name} {found}"
    if name != "celery flower":  # which gives its options to tornado; it is started by the test that runs all
        command.make_context(name, arguments, obj=state)


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_command_can_be_read(program: Program) -> None:
    """The programs accept the options that they are started with, and so do the probes; each setting exists and may have its value."""
    for words in (program.words, *program.probes):
        for command in commands_of(words):
            parsed(command)
    ours = {name: value for name, value in program.environment.items() if name.startswith(settings.ENV)}
    assert settings.from_environment(ours).modules


@pytest.mark.parametrize("way", WAYS)
def test_each_deployment_is_whole(way: str) -> None:
    """Workers listen on every queue, each answers its probe under its own name, and there is one beat, where there is a choice."""
    programs = WAYS[way]()
    workers = [each for each in programs if "worker" in each.words]
    queues = [queue for each in workers for queue in option(each.words, "-Q").split(",")]
    assert sorted(queues) == sorted(ALL_QUEUES)
    for each in workers:
        name = option(each.words, "-n")
        assert name.endswith("@%h")
        for probe in each.probes if way != "image" else ():
            assert f"--worker {name.replace('%h', '$HOSTNAME')} " in probe[2]
        assert way == "image" or each.grace >= 60
    if way != "image":
        assert len([each for each in programs if "beat" in each.words]) == 1
        assert len([each for each in programs if "--serve" in each.words]) == 1


def test_kubernetes_objects_fit_together() -> None:
    """Selectors, ports and budgets point at pods that there are; pods may do no more than they need; beat is alone."""
    objects = [each for _, each in manifests()]
    deployments = {each["metadata"]["name"]: each for each in objects if each["kind"] == "Deployment"}
    labels = {name: each["spec"]["template"]["metadata"]["labels"] for name, each in deployments.items()}

    def chosen(selector: dict[str, str]) -> list[str]:
        return [name for name, has in labels.items() if selector.items() <= has.items()]

    for name, each in deployments.items():
        assert chosen(each["spec"]["selector"]["matchLabels"]) == [name]
        pod = each["spec"]["template"]
        (container,) = pod["spec"]["containers"]
        assert pod["spec"]["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
        assert f"USER {pod['spec']['securityContext']['runAsUser']}:" in (DEPLOY / "Dockerfile").read_text()
        assert set(container["resources"]) == {"requests", "limits"}
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
        annotated = pod["metadata"].get("annotations", {}).get("prometheus.io/port")
        assert annotated is None or int(annotated) == ports["metrics"]
        served = option(container["command"], "--serve") or option(container["command"], "--port")
        assert not served or int(served) in ports.values()
        if "worker" in container["command"]:
            assert next(each["data"]["METRICS_PORT"] for each in objects if each["kind"] == "ConfigMap") == annotated
    for each in objects:
        if each["kind"] in ("Service", "PodDisruptionBudget"):
            spec = each["spec"]["selector"]
            assert len(chosen(spec.get("matchLabels", spec))) == 1
    beat = deployments["feedmill-beat"]["spec"]
    assert (beat["replicas"], beat["strategy"]) == (1, {"type": "Recreate"})


def test_workers_are_scaled_by_what_waits_for_them() -> None:
    """Each ScaledObject asks for the deliveries that wait in the queue of its workers, by a metric and a label that there are."""
    deployments = {each["metadata"]["name"]: each["spec"] for _, each in manifests() if each["kind"] == "Deployment"}
    scaled = [each["spec"] for _, each in manifests() if each["kind"] == "ScaledObject"]
    assert scaled
    for each in scaled:
        target = deployments[each["scaleTargetRef"]["name"]]
        (container,) = target["template"]["spec"]["containers"]
        (trigger,) = each["triggers"]
        query = re.fullmatch(r'sum\((\w+)\{(\w+)="([\w.]+)"\}\)', trigger["metadata"]["query"])
        assert query is not None
        assert query[1] == metrics.QUEUE_DELIVERIES.name and (query[2],) == metrics.QUEUE_DELIVERIES.labels
        assert query[3] in option(container["command"], "-Q").split(",")
        # KEDA falls back on a number of replicas for averages alone.
        assert trigger["metricType"] == "AverageValue" and float(trigger["metadata"]["threshold"]) > 0
        assert 1 <= each["minReplicaCount"] <= target["replicas"] <= each["maxReplicaCount"]


def test_metrics_that_are_named_exist() -> None:
    """Nothing below deploy/ and no guide about it names a metric or a setting that does not exist."""
    known = {each.name for each in metrics.ALL}
    for path in [*DEPLOY.rglob("*.y*ml"), *UNITS.iterdir(), DEPLOY / "Dockerfile"]:
        text = path.read_text()
        for name in re.findall(r"\bfeedmill_\w+", text):
            assert re.sub(r"_(bucket|count|sum)$", "", name) in known or name in known, f"{path.name}: {name}"
        for name in re.findall(r"\bFEEDMILL_(\w+)", text):
            assert name.lower() in settings._FIELDS, f"{path.name}: FEEDMILL_{name}"
