"""The programs of docs/pipeline.md, side by side: python -m benchmarks.tutorial."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.harness import alone, machine
from benchmarks.harness.alone import Rows
from benchmarks.reporting.tables import markdown, number

PAGE = machine.TREE / "docs" / "pipeline.md"
PROGRAM = re.compile(r"^```python\n# (\w+)\.py\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STEPS = {
    "with_queue": "`multiprocessing.Queue`",
    "with_ring_queue": "`RingQueue`",
    "with_ring": "`Ring`, in place",
    "with_two_policies": "the same, with a viewer beside it",
}
# Two runs of different length, so that the start of the processes is not counted.
TIMED = """
import sys, time
import {module}
if __name__ == "__main__":
    began = time.perf_counter()
    seen, _ = {module}.run({count})
    assert seen == {count}, seen
    print(time.perf_counter() - began)
"""
HEAD = ["", "frames/s", "times step 1"]


def write_programs(folder: Path) -> None:
    """The programs of the page, as files."""
    programs = dict(PROGRAM.findall(PAGE.read_text()))
    if set(programs) != set(STEPS):
        raise SystemExit(f"{PAGE} has the programs {sorted(programs)}, not {sorted(STEPS)}")
    for name, code in programs.items():
        (folder / f"{name}.py").write_text(code)


def seconds(folder: Path, module: str, count: int) -> float:
    """What one run takes, from its first process to its last frame."""
    main = folder / "timed.py"
    main.write_text(TIMED.format(module=module, count=count))
    done = subprocess.run(
        [sys.executable, main], cwd=folder, check=True, timeout=600, capture_output=True, text=True
    )
    return float(done.stdout)


def rate(folder: Path, module: str, few: int, many: int) -> float:
    """Frames a second, without the start of the processes."""
    return (many - few) / (seconds(folder, module, many) - seconds(folder, module, few))


def run(rounds: int, quick: bool) -> Rows:
    """The rates of every step, round by round."""
    found: dict[str, list[float]] = {name: [] for name in STEPS}
    few, many = (2, 20) if quick else (100, 3100)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_programs(folder)
        for _ in range(rounds):
            for module, rates in found.items():
                enough = (
                    many if module != "with_queue" else few + (many - few) // 10
                )  # it is that much slower
                rates.append(rate(folder, module, few, enough))
    return [{"step": STEPS[module], "frames/s": rates} for module, rates in found.items()]


def table(rows: Rows) -> str:
    """Medians, and how many times those of the first step in the same round."""
    first = rows[0]["frames/s"]
    lines = []
    for row in rows:
        times = [one / other for one, other in zip(row["frames/s"], first, strict=True)]
        lines.append([row["step"], spread(row["frames/s"]), "" if row is rows[0] else spread(times)])
    return markdown(HEAD, lines)


def spread(values: list[float]) -> str:
    return f"{number(median(values))} ({number(min(values))} to {number(max(values))})"


def main() -> None:
    alone.main("tutorial", __doc__, run, table, rounds=7)


if __name__ == "__main__":
    main()
