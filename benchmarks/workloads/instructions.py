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
CASES = {  # each with what counted_calls.py counts for it
    "calls": ("calls, 64 B", ("put", "get", "array", "claim", "put_many", "batch")),
    "member": ("member of a group, 64 B", ("member",)),
    "held": ("beside held frames, 64 B", ("put", "put_held", "put_spares", "put_all_spares")),
}
SETTINGS = {
    "calls": "one process, warm; get has its release, array its get; put_many and batch are per frame of 64",
    "member": "a get with its release",
    "held": "held: 1 frame; spares: 1 frame, 64 spare slots; all_spares: 64 frames, 64 spare slots",
}
LIMIT_S = 300


def cells(effort: Effort) -> list[Cell]:
    return [
        Cell(
            PART,
            case,
            "shmring",
            OURS,
            lambda what=what: count(what),
            dict.fromkeys(operations, "instructions"),
            SETTINGS[what],
            once=True,
        )
        for what, (case, operations) in CASES.items()
    ]


def count(what: str) -> dict[str, float]:
    """Run counted_calls.py under callgrind and read its counts."""
    if shutil.which("valgrind") is None:
        raise RuntimeError("valgrind is not installed")
    with tempfile.TemporaryDirectory() as folder:
        marks = build_marks(Path(folder))
        command = [
            "valgrind", "--tool=callgrind", "--instr-atstart=no", "--dump-instr=no",
            f"--callgrind-out-file={folder}/counts",
            sys.executable, "-m", "benchmarks.workloads.counted_calls", str(marks), what,
        ]  # fmt: skip
        found = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
        if found.returncode:
            words = [line for line in found.stderr.splitlines() if line and not line.startswith("==")]
            raise RuntimeError(f"callgrind: {words[-1] if words else found.stderr[-300:]}")
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
