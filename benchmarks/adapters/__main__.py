"""Creates a virtual environment with the peers: python -m benchmarks.adapters install [--into FOLDER].

The benchmarks then run with its Python: FOLDER/bin/python -m benchmarks. It sees the shmring of this
tree, which must be installed editable for the same version of Python.
"""

import argparse
import json
import subprocess
import sys
import sysconfig
from pathlib import Path

from benchmarks.harness.machine import TREE

REQUIREMENTS = Path(__file__).parent / "requirements.txt"
NEEDED = ("numpy>=2.2", "matplotlib>=3.8")
FAILED = "failed.json"  # in the environment: distribution -> pip's error


def install(folder: Path) -> dict[str, str]:
    """Install every peer that can be installed; return pip's error for the others."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *NEEDED], check=True)
    failed = {}
    for line in REQUIREMENTS.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        requirement, *options = line.split()
        print(requirement, end=" ", flush=True)
        found = subprocess.run([*pip, requirement, *options], capture_output=True, text=True)
        print("failed" if found.returncode else "installed")
        if found.returncode:
            last = (found.stderr.strip() or found.stdout.strip() or "no message").splitlines()[-1]
            failed[requirement.partition("==")[0]] = f"pip install {requirement}: {last}"[:300]
    (folder / FAILED).write_text(json.dumps(failed, indent=1) + "\n")
    purelib = sysconfig.get_path("purelib", scheme="venv", vars={"base": str(folder)})
    (Path(purelib) / "shmring-tree.pth").write_text(f"{TREE}\n")
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapters", description=__doc__)
    parser.add_argument("command", choices=["install"])
    parser.add_argument("--into", type=Path, default=TREE / "build" / "peers", metavar="FOLDER")
    options = parser.parse_args()
    failed = install(options.into)
    for reason in failed.values():
        print(reason)
    print(f"{options.into / 'bin' / 'python'} -m benchmarks")


if __name__ == "__main__":
    main()
