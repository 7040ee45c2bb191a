"""Look all installed packages up in the advisory databases, and never take silence for a clean bill.

Run as ``make audit``. Exits 1 for a package with a known hole, and 2 if packages could not be looked up, unless
``--may-be-away`` says that this is no failure.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

#: Databases in the order in which they are asked: the next is asked if one cannot be reached or knows nothing at all.
SERVICES = ("pypi", "osv")


def ask(pip_audit: str, folder: str, service: str) -> tuple[list[dict[str, Any]], str]:
    """What *service* says of each package in *folder*; and why it says nothing."""
    command = [pip_audit, "--vulnerability-service", service, "--path", folder, "--skip-editable", "--format", "json"]
    try:
        done = subprocess.run([*command, "--progress-spinner", "off"], capture_output=True, text=True, timeout=600)
        return json.loads(done.stdout)["dependencies"], ""
    except subprocess.TimeoutExpired:
        return [], "no answer in ten minutes"
    except (ValueError, KeyError):
        return [], (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:300]


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="make audit", description=__doc__)
    parser.add_argument("pip_audit", help="the pip-audit to run")
    parser.add_argument("folder", help="where the packages are installed")
    parser.add_argument("--may-be-away", action="store_true", help="exit 0 if no database can be reached")
    options = parser.parse_args(arguments)
    for service in SERVICES:
        packages, why = ask(options.pip_audit, options.folder, service)
        packages = [each for each in packages if "editable" not in each.get("skip_reason", "")]
        known = [each for each in packages if "vulns" in each]
        if known:
            break
        print(f"audit: {service}: {why or 'it knows none of the packages'}")
    holes = [(each, hole) for each in known for hole in each["vulns"]]
    for each, hole in holes:
        fixed = ", ".join(hole["fix_versions"]) or "no version yet"
        print(f"audit: {each['name']} {each['version']}: {hole['id']}, fixed in {fixed}")
    missing = [each["name"] for each in packages if "vulns" not in each]
    if holes:
        print(f"audit: {len(holes)} known holes in {len({each['name'] for each, _ in holes})} packages")
        return 1
    if missing or not known:
        what = f"for {len(missing)} of {len(packages)} packages: {', '.join(missing[:5])} …" if known else "at all"
        print(
            f"audit: NOT DONE {what}. That says nothing about holes: run `make audit` where a database can be reached"
        )
        return 0 if options.may_be_away else 2
    print(f"audit: {len(known)} packages, no known hole ({service})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
