"""Examine the dependencies: `python tools/supply_chain.py audit licenses sbom`.

    audit      known vulnerabilities, by pip-audit
    licenses   table of licenses, by pip-licenses; a license that is not permissive is an error
    sbom       build/sbom.json, a software bill of materials in CycloneDX

They are computed for a clean environment with the wheel in dist/ and the extras of --extras.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build"
TOOLS = ["pip-audit>=2.9", "pip-licenses>=5", "cyclonedx-bom>=7"]
PERMISSIVE = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|Zlib|HPND|MPL|Mozilla Public|Unlicense|CC0|Public Domain"
)
COPYLEFT = re.compile(r"(?<!L)GPL|General Public License")


def run(*command: str | Path, capture: bool = False) -> str:
    """Run a command; return its output if it is captured."""
    result = subprocess.run(list(map(str, command)), check=True, text=True, stdout=subprocess.PIPE if capture else None)
    return result.stdout or ""


def make_environment(name: str, *requirements: str) -> Path:
    """Create an environment in build/ with packages; return its interpreter."""
    folder = BUILD / name
    run(sys.executable, "-m", "venv", "--clear", folder)
    python = next(path for path in (folder / "bin/python", folder / "Scripts/python.exe") if path.exists())
    run(python, "-m", "pip", "install", "--quiet", *requirements)
    return python


def audit(tools: Path, python: Path) -> bool:
    """Print known vulnerabilities; return whether all dependencies were audited and have none."""
    frozen = BUILD / "frozen.txt"
    lines = run(python, "-m", "pip", "freeze", "--exclude", "yolopose", capture=True)
    frozen.write_text(re.sub(r"(?m)^(\S+) @ .*\n", "", lines), encoding="utf-8")
    command = [tools, "-m", "pip_audit", "--requirement", frozen, "--no-deps", "--disable-pip", "--format=json"]
    result = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True)
    if not result.stdout:
        print(result.stderr, file=sys.stderr)
        return False
    rows = json.loads(result.stdout)["dependencies"]
    for row in rows:
        for fault in row.get("vulns", []):
            print(f"! {row['name']} {row['version']}: {fault['id']}, fixed in {', '.join(fault['fix_versions'])}")
    skipped = [row["name"] for row in rows if "skip_reason" in row]
    print(f"{len(rows) - len(skipped)} of {len(rows)} dependencies audited")
    if skipped:
        print(f"Not audited, since the index has no audit data for them: {', '.join(skipped)}", file=sys.stderr)
    return not skipped and not any(row.get("vulns") for row in rows)


def licenses(tools: Path, python: Path) -> bool:
    """Print the license of each dependency; return whether all are permissive."""
    command = [tools, "-m", "piplicenses", "--python", python, "--from=mixed", "--format=json"]
    rows = json.loads(run(*command, capture=True))
    is_good = True
    for row in sorted(rows, key=lambda row: row["Name"].lower()):
        license_text = row["License"].splitlines()[0][:80]
        is_permissive = bool(PERMISSIVE.search(license_text)) and not COPYLEFT.search(license_text)
        is_good &= is_permissive
        print(f"{'  ' if is_permissive else '! '}{row['Name']:<28}{row['Version']:<16}{license_text}")
    if not is_good:
        print("\nLines with ! have a license that is not known to be permissive.", file=sys.stderr)
    return is_good


def sbom(tools: Path, python: Path) -> bool:
    """Write build/sbom.json."""
    target = BUILD / "sbom.json"
    run(
        tools, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--of", "JSON", "-o", target,
        "--pyproject", ROOT / "pyproject.toml", python,
    )  # fmt: skip
    components = json.loads(target.read_text(encoding="utf-8")).get("components", [])
    print(f"{target}: {len(components)} components")
    return True


def main() -> int:
    """Run the command line."""
    steps = {"audit": audit, "licenses": licenses, "sbom": sbom}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="+", choices=steps)
    parser.add_argument("--extras", default="headless,track,parquet,coco", help="extras of the environment")
    arguments = parser.parse_args()
    wheels = sorted((ROOT / "dist").glob("*.whl"))
    if len(wheels) != 1:
        print(f"dist/ has {len(wheels)} wheels; one is needed: python -m build --wheel", file=sys.stderr)
        return 1
    tools = make_environment("supply-chain-tools", *TOOLS)
    python = make_environment(
        "supply-chain", f"{wheels[0]}[{arguments.extras}]" if arguments.extras else str(wheels[0])
    )
    outcomes = [steps[step](tools, python) for step in arguments.steps]  # all of them run
    return not all(outcomes)


if __name__ == "__main__":
    sys.exit(main())
