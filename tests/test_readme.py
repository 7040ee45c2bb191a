"""The README's example."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_example_runs_as_it_stands_and_prints_what_the_readme_says(tmp_path: Path) -> None:
    """The first program that a newcomer copies works, in a folder of its own and without any environment."""
    text = (ROOT / "README.md").read_text()
    found = re.search(r"<!-- example -->\n```python\n(.*?)```\n+```text\n(.*?)```", text, re.DOTALL)
    assert found, "README.md has no example followed by what it prints"
    program, printed = found.groups()
    (tmp_path / "example.py").write_text(program)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FEEDMILL_")}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == (printed, "", 0)


def test_the_first_program_is_the_one_that_runs() -> None:
    """Whoever tries the first Python block of the README has tried the one that works as it stands."""
    text = (ROOT / "README.md").read_text()
    assert text.index("```python") == text.index("<!-- example -->\n```python") + len("<!-- example -->\n")
    for heading in ("Installation", "Quickstart", "Documentation"):
        assert f"\n## {heading}\n" in text


def test_links_work_on_an_index_page() -> None:
    """Links and pictures of the README are absolute, as a package index needs them, and what they name is in the repository."""
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert [link for link in links if not link.startswith("https://")] == []
    home = (
        r"https://(?:github\.com/feedmill/feedmill/(?:blob|tree)|raw\.githubusercontent\.com/feedmill/feedmill)/main/"
    )
    ours = [re.sub(home, "", link) for link in links if re.match(home, link)]
    assert len(ours) > 10
    assert [name for name in ours if not (ROOT / name).exists()] == []


def test_the_example_is_short() -> None:
    """Fifteen lines of code, blank lines aside, are what a first screen has room for."""
    text = (ROOT / "README.md").read_text()
    program = text.split("<!-- example -->\n```python\n")[1].split("```")[0]
    assert len([line for line in program.splitlines() if line.strip()]) <= 15
