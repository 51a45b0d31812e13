"""Instructions per operation, counted by callgrind: repeatable, unlike times."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import limits
from benchmarks.harness.cells import OURS, Cell
from benchmarks.workloads import Effort

PART = "instructions"
OPERATIONS = {
    "put": "put, 64 B",
    "get": "get and release",
    "member": "get and release, member of a group",
    "array": "get, .array and release",
    "claim": "claim and publish",
    "put_many": "put_many, per frame of 64",
    "batch": "batch with .array, per frame of 64",
}
LIMIT_S = 300


def cells(effort: Effort) -> list[Cell]:
    units = dict.fromkeys(OPERATIONS, "instructions")
    return [
        Cell(
            PART,
            "per operation, 64 B",
            "shmring",
            OURS,
            count,
            units,
            "callgrind, one process, warm",
            once=True,
        )
    ]


def count() -> dict[str, float]:
    """Run counted_calls.py under callgrind and read its counts."""
    if shutil.which("valgrind") is None:
        raise RuntimeError("valgrind is not installed")
    with tempfile.TemporaryDirectory() as folder:
        marks = build_marks(Path(folder))
        command = [
            "valgrind", "--tool=callgrind", "--instr-atstart=no", "--dump-instr=no",
            f"--callgrind-out-file={folder}/counts",
            sys.executable, "-m", "benchmarks.workloads.counted_calls", str(marks),
        ]  # fmt: skip
        found = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
        if found.returncode:
            raise RuntimeError(f"callgrind: {found.stderr.strip()[-300:]}")
        return per_operation(Path(folder))


def build_marks(folder: Path) -> Path:
    target = folder / "marks.so"
    source = limits.HERE / "marks.c"
    built = subprocess.run(
        ["cc", "-O2", "-shared", "-fPIC", str(source), "-o", str(target)], capture_output=True, text=True
    )
    if built.returncode:
        raise RuntimeError(f"valgrind's headers are missing: {built.stderr.strip()[-200:]}")
    return target


def per_operation(folder: Path) -> dict[str, float]:
    """Each dump is labelled with what was counted and how often; the cost of the empty loop is subtracted."""
    totals = {}
    for path in folder.glob("counts.*"):
        text = path.read_text()
        trigger = next(
            (line for line in text.splitlines() if line.startswith("desc: Trigger: Client Request:")), ""
        )
        total = next((line for line in text.splitlines() if line.startswith(("summary:", "totals:"))), "")
        if trigger and total:
            name, calls, frames = trigger.rpartition(":")[2].split()
            totals[name] = (int(total.split()[1]), int(calls), int(frames))
    empty, calls, _ = totals.pop("empty")
    return {
        name: (total - empty * repeats / calls) / frames for name, (total, repeats, frames) in totals.items()
    }
