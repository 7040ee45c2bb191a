"""What is installed, and what the checkout's links mean."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
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
