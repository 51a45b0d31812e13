"""Fault injection: every role killed at every point of every operation, and what the survivors promise.

python tests/provers/faults/faults.py [--seconds 110] [--seed 1] [--json FILE] [PART ...]

accesses       C processes killed before each access to the block           (crash.c with crash_atomic.h)
instructions   C processes killed between two instructions of the headers   (crash.c, single-stepped)
api            the Python API killed before each access and each line       (api.py, on a core built for it)
storm          forks that inherit handles, stops, kills at random moments   (storm.py, on the installed core)

Needs a C compiler; for `api` also Cython and setuptools, and the tree. The seed fixes what is done, not when
the system does it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import shmring

HERE = Path(__file__).parent
TREE = HERE.parents[2]
CORES = len(os.sched_getaffinity(0))
WORKERS = 4 * CORES  # they mostly sleep
GRACE = 120.0  # seconds on top of twice the time that a part was given, until it counts as hanging
SHARES = {"accesses": 0.4, "instructions": 0.2, "api": 0.2, "storm": 0.2}  # of the time


def build_program(folder: Path, *flags: str, include: str | None = None) -> Path:
    """Compile crash.c."""
    program = folder / "crash"
    compiler = os.environ.get("CC", "gcc")
    folders = [f"-I{include or shmring.get_include()}", f"-I{HERE}"]
    command = [compiler, "-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", *flags, *folders]
    subprocess.run([*command, "-o", str(program), str(HERE / "crash.c")], check=True)
    return program


def build_core(folder: Path) -> None:
    """Build the package in a folder, its core with crash_atomic.h."""
    for name in ("shmring", "src"):
        shutil.copytree(
            TREE / name, folder / name, ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__")
        )
    shutil.copy(TREE / "setup.py", folder)
    flags = f"-DSHMRING_ATOMIC_SPELLING=<crash_atomic.h> -I{HERE}"
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=folder,
        env={**os.environ, "CFLAGS": flags},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def report_of(command: list[str], seconds: float = 60, **environment: str) -> dict[str, Any]:
    """What a part that should take so many seconds reports; one that hangs is a violation."""
    limit, settings = 2 * seconds + GRACE, {**os.environ, **environment}
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, env=settings, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return {"violation": f"{' '.join(command)} did not end within {limit:g} s", "kills": 0}
    if done.returncode not in (0, 1):
        return {"violation": f"{command[0]} ended with {done.returncode}", "kills": 0}
    report: dict[str, Any] = json.loads(done.stdout)
    if not report["kills"] and not report["violation"]:
        report["violation"] = f"{' '.join(command)} killed nobody, so it shows nothing"
    return report


def accesses(folder: Path, seconds: int, seed: int) -> dict[str, Any]:
    return report_of([str(build_program(folder)), str(seconds), str(seed), str(WORKERS)], seconds)


def instructions(folder: Path, seconds: int, seed: int) -> dict[str, Any]:
    program = build_program(folder, "-DBY_INSTRUCTION")
    return report_of([str(program), str(seconds), str(seed), str(WORKERS)], seconds)


def api(folder: Path, seconds: int, seed: int) -> dict[str, Any]:
    build_core(folder)
    script = [sys.executable, str(HERE / "api.py"), "--seconds", str(seconds), "--seed", str(seed)]
    return report_of(script, seconds, PYTHONPATH=str(folder))


def storm(folder: Path, seconds: int, seed: int) -> dict[str, Any]:
    script = [sys.executable, str(HERE / "storm.py"), "--seconds", str(seconds), "--seed", str(seed)]
    return report_of(script, seconds)


PARTS: dict[str, Callable[[Path, int, int], dict[str, Any]]] = {
    "accesses": accesses,
    "instructions": instructions,
    "api": api,
    "storm": storm,
}


def show(report: dict[str, Any]) -> None:
    print(f"\n{report.get('mode')}: {report['kills']} kills in {report.get('seconds')} s")
    for row in report.get("operations", []):
        recovery = row["recovery ms"]
        print(
            f"  {row['role']:9} {row['operation']:32} {row['kills']:6} kills;  recovery: "
            f"median {recovery['median']:6.1f} ms, worst {recovery['worst']:6.1f} ms"
        )
    for what in ("stops", "frames", "lost, all counted", "swaps", "stopped", "recovery ms"):
        if what in report:
            print(f"  {what}: {report[what]}")
    sites = report.get("sites", [])
    if sites:
        spared = [f"{site['function']}:{site['line']}" for site in sites if site["kills"] == 0]
        print(
            f"  died at {len(sites) - len(spared)} of {len(sites)} accesses in the headers; not at {spared}"
        )
    print(f"  violation: {report['violation'] or 'none'}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--seconds", type=int, default=110, help="for all parts together, besides building")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the report there")
    given = parser.parse_args()
    chosen = given.parts or list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"no such part: {unknown}")
    reports = []
    for part in chosen:
        seconds = max(round(given.seconds * SHARES[part] / sum(SHARES[one] for one in chosen)), 1)
        with tempfile.TemporaryDirectory(prefix="shmring-faults-") as folder:
            reports.append(PARTS[part](Path(folder), seconds, given.seed))
        show(reports[-1])
    if given.json:
        machine = f"{platform.machine()}, {CORES} cores, Linux {platform.release()}"
        given.json.write_text(json.dumps({"machine": machine, "parts": reports}, indent=1) + "\n")
    kills = sum(report["kills"] for report in reports)
    violations = [report["violation"] for report in reports if report["violation"]]
    print(f"\nfaults: {kills} kills, {len(violations)} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
