"""What is installed, and what the checkout's links mean."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: One wheel for all of them.
pytestmark = pytest.mark.xdist_group("wheel")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout.decode()
    if not files:
        pytest.skip("not a git checkout")
    for name in files.strip("\0").split("\0"):
        origin = ROOT / name
        if origin.is_file() and not any(parent.is_symlink() for parent in [origin, *origin.parents]):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(origin.read_bytes())
    for link in ("feeds", "aggregators", "tasks", "celeryconfig.py"):
        (source / link).symlink_to((ROOT / link).readlink())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(folder),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture
def wheel(built: Path) -> list[str]:
    """The names in the wheel."""
    return zipfile.ZipFile(built).namelist()


def test_nothing_else_becomes_importable(wheel: list[str]) -> None:
    """An install brings the package and its metadata, and no `feeds`, `tasks` or `tests` beside them."""
    top = {name.split("/")[0] for name in wheel}
    assert {name for name in top if not name.endswith(".dist-info")} == {"feedmill"}


def test_everything_is_in_the_wheel(wheel: list[str]) -> None:
    """The scripts, the typing marker and every module are installed."""
    package = ROOT / "feedmill"
    tracked = subprocess.run(
        ["git", "ls-files", "feedmill"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    wanted = {name for name in tracked if name.endswith((".py", ".lua", "py.typed")) and (ROOT / name).is_file()}
    assert package.is_dir()
    assert any(name.endswith(".lua") for name in wanted)
    assert "feedmill/py.typed" in wanted
    assert wanted <= set(wheel)


def test_an_index_page_can_be_made_of_the_metadata(built: Path) -> None:
    """A package index finds links, keywords, classifiers and a licence, and nothing is required that nobody imports."""
    with zipfile.ZipFile(built) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        found = message_from_bytes(wheel.read(name))
    labels = {entry.partition(",")[0] for entry in found.get_all("Project-URL", [])}
    assert labels == {"Documentation", "Changelog", "Source", "Issues"}
    assert found["Keywords"] and found["License-Expression"] == "BSD-3-Clause"
    kinds = {entry.partition(" :: ")[0] for entry in found.get_all("Classifier", [])}
    assert kinds >= {"Development Status", "Framework", "Intended Audience", "Operating System", "Topic"}
    required = [entry for entry in found.get_all("Requires-Dist", []) if "extra ==" not in entry]
    imported = "".join(path.read_text() for path in (ROOT / "feedmill").rglob("*.py"))
    names = {re.split(r"[^\w-]", entry)[0] for entry in required}
    unused = {name for name in names if not re.search(rf"^ *(import|from) {name}\b", imported, re.MULTILINE)}
    assert unused == {"packaging"}  # which kombu's transport for Redis imports, without saying so


def test_the_source_distribution_is_complete(built: Path, tmp_path: Path) -> None:
    """Whoever packages Feedmill from the sdist has its tests, documentation, examples and changelog."""
    source = built.parent / "source"
    code = f"import setuptools.build_meta as b; b.build_sdist({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    wanted = {
        name
        for name in tracked
        if not name.startswith((".ci/", ".git")) and (ROOT / name).is_file() and not (ROOT / name).is_symlink()
    }
    assert sorted(wanted - names) == []


def test_an_install_elsewhere_works(built: Path, tmp_path: Path) -> None:
    """In an empty environment outside the checkout the installed package imports, has its data, and its command runs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "venv"], cwd=tmp_path, check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", str(built)], cwd=tmp_path, check=True)
    (site,) = tmp_path.glob("venv/lib/python*/site-packages")
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} <= {"feedmill", "__pycache__"}

    # What it depends on comes from here; a path in PYTHONPATH brings no editable install with it.
    environment = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib"), "FEEDMILL_REDIS_URL": "memory://"}
    code = (
        "import feedmill, feedmill.feeds, feedmill.tasks\n"
        "from importlib.resources import files\n"
        "print(feedmill.__file__)\n"
        "assert files('feedmill').joinpath('py.typed').is_file()\n"
        "scripts = files('feedmill.storage.redis.scripts').iterdir()\n"
        "assert any(script.name.endswith('.lua') for script in scripts)\n"
    )
    for command in ([str(python), "-c", code], [str(python.with_name("feedmill")), "--help"]):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        if code in command:
            assert Path(done.stdout.strip()) == site / "feedmill" / "__init__.py"


def test_the_links_of_the_checkout_are_the_package() -> None:
    """`feeds`, `aggregators` and `tasks` at the top of the checkout give the very classes of the package."""
    code = (
        "import feeds, aggregators, feedmill.feeds, feedmill.aggregators\n"
        "assert feeds.NotificationFeed is feedmill.feeds.NotificationFeed\n"
        "assert aggregators.BaseAggregator is feedmill.aggregators.BaseAggregator\n"
        "import tasks, feedmill.tasks\n"
        "assert tasks.app is feedmill.tasks.app\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
