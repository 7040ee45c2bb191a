"""What is shipped below deploy/, taken apart: each program that it starts, with its settings and its probes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
UNITS = DEPLOY / "systemd"
MANIFESTS = DEPLOY / "kubernetes"
#: Instances of the worker's template unit.
INSTANCES = ("high", "low", "hooks")


class Program(NamedTuple):
    """One program of a deployment, as it is started."""

    #: File and name.
    where: str
    words: Sequence[str]
    environment: Mapping[str, str]
    #: Commands that end with status 0 when the program is well.
    probes: Sequence[Sequence[str]] = ()
    #: Seconds that it has to end in.
    grace: float = 0.0


def image() -> list[Program]:
    """What the image runs by itself, and its probe."""
    text = (DEPLOY / "Dockerfile").read_text()
    environment = dict(
        re.findall(r"\b([A-Z_]+)=(\S+)", " ".join(re.findall(r"^ENV ((?:.*\\\n)*.*)", text, re.MULTILINE)))
    )
    command, probe = (
        json.loads(found) for found in (_last(r"^CMD (\[.*)", text), _last(r"^HEALTHCHECK .*CMD (\[.*)", text))
    )
    return [Program("Dockerfile", command, environment, [probe])]


def _last(pattern: str, text: str) -> str:
    return re.findall(pattern, text, re.MULTILINE)[-1]  # type: ignore[no-any-return]


def compose_file() -> dict[str, Any]:
    """The compose file."""
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())  # type: ignore[no-any-return]


def compose() -> list[Program]:
    """Services that run our image."""
    (of_image,) = image()
    return [
        Program(
            f"compose.yaml: {name}",
            [unescaped(word) for word in service["command"]],
            {**of_image.environment, **service["environment"]},
            [probe] if (probe := words_of(service["healthcheck"].get("test", []))) else [],
            float(service["stop_grace_period"].removesuffix("s")),
        )
        for name, service in compose_file()["services"].items()
        if service["image"] == "feedmill-site"
    ]


def unescaped(word: str) -> str:
    """A word of the compose file as the container gets it."""
    return word.replace("$$", "$")


def words_of(test: Sequence[str]) -> list[str]:
    """The command of a health check of the compose file."""
    words = [unescaped(word) for word in test[1:]]
    return ["sh", "-c", *words] if test[:1] == ["CMD-SHELL"] else words


def systemd() -> list[Program]:
    """What the units start."""
    return [
        *(_of_unit("feedmill-worker@.service", instance) for instance in INSTANCES),
        _of_unit("feedmill-beat.service"),
        _of_unit("feedmill-exporter.service"),
    ]


def _of_unit(name: str, instance: str = "") -> Program:
    text = (UNITS / name).read_text()
    text = text.replace("%i", instance).replace("%t", "/run").replace("%%", "%")
    found = re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)
    environment: dict[str, str] = {}
    for key, value in found:
        if key == "Environment":
            environment.update(word.split("=", 1) for word in shlex.split(value))
        elif key == "EnvironmentFile":
            lines = (UNITS / Path(value).name).read_text().splitlines()
            environment.update(line.split("=", 1) for line in lines if not line.startswith("#"))
    values = dict(found)
    words = [re.sub(r"\$\{(\w+)\}", lambda match: environment[match[1]], word) for word in values["ExecStart"].split()]
    where = f"{name.replace('@', '@' + instance)}"
    return Program(where, [Path(words[0]).name, *words[1:]], environment, grace=float(values["TimeoutStopSec"]))


def manifests() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each Kubernetes object that is shipped, with its file."""
    for path in sorted(MANIFESTS.rglob("*.yaml")):
        if path.name != "kustomization.yaml":
            for each in yaml.safe_load_all(path.read_text()):
                yield str(path.relative_to(DEPLOY)), each


def kubernetes() -> list[Program]:
    """What the Deployments run."""
    objects = list(manifests())
    shared: dict[str, str] = {}
    for _, each in objects:
        if each["kind"] in ("ConfigMap", "Secret"):
            shared.update(each.get("data") or each["stringData"])
    found = []
    for where, each in objects:
        if each["kind"] == "Deployment":
            pod = each["spec"]["template"]["spec"]
            (container,) = pod["containers"]
            environment = {**shared, **{one["name"]: one["value"] for one in container.get("env", ())}}
            probes = [
                container[kind]["exec"]["command"]
                for kind in ("startupProbe", "livenessProbe", "readinessProbe")
                if "exec" in container.get(kind, {})
            ]
            grace = pod["terminationGracePeriodSeconds"]
            name = f"{where}: {each['metadata']['name']}"
            found.append(Program(name, container["command"], environment, probes, grace))
    return found


#: Ways to deploy, by name.
WAYS = {"image": image, "compose": compose, "systemd": systemd, "kubernetes": kubernetes}


def commands_of(words: Sequence[str]) -> list[list[str]]:
    """The commands that *words* start: themselves, or those of the script that is given to a shell."""
    if list(words[:2]) != ["sh", "-c"]:
        return [list(words)]
    return [each for part in re.split(r"\|\||&&|;", words[2]) if (each := shlex.split(part))[0] != "["]


def option(words: Sequence[str], name: str) -> str:
    """The value of an option, or nothing."""
    words = list(words)
    return words[words.index(name) + 1] if name in words else ""
