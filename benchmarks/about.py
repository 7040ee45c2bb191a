"""Where and how the figures were taken."""

from __future__ import annotations

import dataclasses
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench

PACKAGES = ("feedmill", "celery", "kombu", "redis", "hiredis", "msgpack")


def about(bench: Bench, seconds: float) -> dict[str, Any]:
    """Date, versions, machine and amounts."""
    info: dict[str, Any] = bench.client.info("server")
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": round(seconds),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "python": platform.python_version(),
        "redis_server": info["redis_version"],
        "packages": {name: version(name) for name in PACKAGES},
        "amounts": dataclasses.asdict(bench.amounts),
        **bench.facts,
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
