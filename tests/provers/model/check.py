"""Runs spin on the model: every instance must hold, every mutant must fail. See docs/model.md.

python tests/provers/model/check.py --quick       the short form, which CI runs
python tests/provers/model/check.py               everything
python tests/provers/model/check.py --only lossy --only REAP_KEEPS_PINS
"""

from __future__ import annotations

import argparse
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from instances import INSTANCES, MUTANTS, Defines

HERE = Path(__file__).resolve().parent
MEMORY_MB = 3800
DEPTH = 200_000
LIMIT_S = 1200
COMPILER = "tcc" if shutil.which("tcc") else "gcc"


@dataclass(frozen=True)
class Result:
    """What one run of pan said."""

    error: str  # "" if none
    complete: bool
    states: int
    depth: int
    memory_mb: float
    cpu_s: float
    statements: Counter[tuple[str, str]]  # (proctype, line) -> states there
    unreached: Counter[tuple[str, str]]


def build(folder: Path, defines: Defines, compact: bool) -> None:
    """Make pan in the folder."""
    options = [f"-D{name}={value}" for name, value in defines.items()]
    run = subprocess.run(
        ["spin", *options, "-a", str(HERE / "ring.pml")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0 or "Error" in run.stdout + run.stderr:
        raise SystemExit(f"spin: {run.stdout}{run.stderr}")
    # Not optimised: gcc -O1 works on pan for longer than all of these runs take; tcc for a blink.
    kind = "-DHC4" if compact else "-DCOLLAPSE"
    flags = ["-w", "-DSAFETY", "-DNOFAIR", kind, f"-DMEMLIM={MEMORY_MB}"]
    subprocess.run([COMPILER, *flags, "-o", "pan", "pan.c"], cwd=folder, check=True)


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found[1]) if found else 0.0


def statements_of(listing: str) -> Counter[tuple[str, str]]:
    """Every state of every proctype, from `pan -d`: by its line, which is the same in all instances."""
    found: set[tuple[str, str, str]] = set()
    proctype = ""
    for line in listing.splitlines():
        if line.startswith("proctype "):
            proctype = line.split()[1]
        elif step := re.match(r"\s+state\s+(\d+) -\(.* (\S+:\d+) => ", line):
            found.add((proctype, step[1], step[2]))
    return Counter((proctype, where) for proctype, _, where in found)


def unreached_of(report: str) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    proctype = ""
    for line in report.splitlines():
        if line.startswith("unreached in "):
            proctype = line.split()[-1]
        elif step := re.match(r"\t(\S+:\d+), state \d+, ", line):
            found[proctype, step[1]] += 1
    return found


def output_of(command: list[str], folder: Path) -> str:
    """What pan says; interrupted at the limit, it still says how far it came."""
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as run:
        try:
            return run.communicate(timeout=LIMIT_S)[0]
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGINT)
            return run.communicate()[0]


def explore(defines: Defines, compact: bool) -> Result:
    """Build pan and run it to the end, or to the first error."""
    with tempfile.TemporaryDirectory(prefix="shmring-model-") as name:
        folder = Path(name)
        build(folder, defines, compact)
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        said = output_of(["./pan", f"-m{DEPTH}"], folder)
        cpu = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        listing = subprocess.run(
            ["./pan", "-d"], cwd=folder, capture_output=True, text=True, check=False
        ).stdout
    error = re.search(r"^pan:\d+: (.*?)(?: \(at depth \d+\))?$", said, re.MULTILINE)
    return Result(
        error=error[1] if error else "" if "errors: 0" in said else f"pan said {said[-300:]!r}",
        complete="Search not completed" not in said and "max search depth too small" not in said,
        states=int(number(r"([\d.e+]+) states, stored", said)),
        depth=int(number(r"depth reached (\d+)", said)),
        memory_mb=number(r"([\d.]+)\s+total actual memory usage", said),
        cpu_s=cpu,
        statements=statements_of(listing),
        unreached=unreached_of(said),
    )


def check_instances(names: list[str], vacuity: bool) -> bool:
    """Run instances; with `vacuity`, list the lines that none of them reached."""
    good = True
    known: set[tuple[str, str]] = set()
    reached: set[tuple[str, str]] = set()
    print(
        f"{'instance':18} {'search':13} {'states':>11} {'depth':>6} {'MB':>6} {'cpu s':>6}  result",
        flush=True,
    )
    for name in names:
        instance = INSTANCES[name]
        compact = not instance.quick
        result = explore(instance.defines, compact)
        holds = not result.error and result.complete
        good &= holds
        known |= set(result.statements)
        reached |= set(result.statements - result.unreached)
        verdict = "holds" if holds else result.error or "not completed"
        search = "hash-compact" if compact else "exhaustive"
        print(
            f"{name:18} {search:13} {result.states:11,} {result.depth:6} {result.memory_mb:6.0f} "
            f"{result.cpu_s:6.1f}  {verdict}",
            flush=True,
        )
    if vacuity:
        dead = sorted(known - reached)
        print(f"\n{len(known)} lines, reached in no instance: {len(dead)}", *dead, sep="\n  ", flush=True)
    return good


def check_mutants(names: Iterable[str]) -> bool:
    good = True
    print(f"\n{'mutant':34} {'instance':18} {'states':>9} {'cpu s':>6}  what failed", flush=True)
    for name in names:
        _, where = MUTANTS[name]
        result = explore({**INSTANCES[where].defines, name: 1}, compact=True)
        good &= bool(result.error)
        verdict = result.error or ("SURVIVES" if result.complete else "not completed")
        print(f"{name:34} {where:18} {result.states:9,} {result.cpu_s:6.1f}  {verdict}", flush=True)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the short form")
    parser.add_argument("--only", action="append", default=[], help="an instance or a mutant")
    asked = parser.parse_args()
    wanted = asked.only or [*INSTANCES, *MUTANTS]
    instances = [
        n for n in INSTANCES if n in wanted and (asked.only or not asked.quick or INSTANCES[n].quick)
    ]
    mutants = [
        n
        for n in MUTANTS
        if n in wanted and (asked.only or not asked.quick or INSTANCES[MUTANTS[n][1]].quick)
    ]
    good = check_instances(instances, vacuity=not asked.only) if instances else True
    if mutants:
        good &= check_mutants(mutants)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
