"""Another build of shmring in the same run: its Python measures the workloads of ours, when asked to.

The other process has the benchmarks of this tree and a shmring of its own, and lives as long as the run does.
It measures one cell when it is asked to, so that each row of ours has the other build's next to it in every
round.
"""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from benchmarks import limits, workloads
from benchmarks.harness.cells import OTHER, OTHER_SUFFIX, OURS, Cell
from benchmarks.harness.isolation import RunFailed
from benchmarks.harness.machine import TREE, build_of


class Refused(Exception):
    """The other Python cannot measure; the message says why."""


class OtherBuild:
    """The process of another Python, which has another shmring."""

    def __init__(self, python: str, parts: list[str], effort: workloads.Effort):
        self._folder = tempfile.TemporaryDirectory(prefix="shmring-against-")
        place = Path(self._folder.name)
        # A folder with nothing but the benchmarks: shmring itself must come from the other environment.
        (place / "benchmarks").symlink_to(TREE / "benchmarks")
        self._errors = place / "errors"
        request = {"parts": parts, "seconds": effort.seconds, "quick": effort.quick}
        command = [python, "-m", "benchmarks.against", json.dumps(request)]
        try:
            self._process = self._start(command, place)
        except OSError as error:
            self._folder.cleanup()
            raise Refused(f"{python} cannot measure: {error}") from None
        try:
            hello = self._answer()
        except RunFailed as error:
            self.end()
            raise Refused(f"{python} cannot measure: {error}") from None
        self.description: str = hello["description"]
        self._cells = {tuple(names) for names in hello["cells"]}

    def _start(self, command: list[str], place: Path) -> "subprocess.Popen[str]":
        environment = os.environ | {"PYTHONPATH": str(place)}
        with self._errors.open("w") as errors:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                cwd=place, env=environment, start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> "OtherBuild":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End the process; it cleans up what it is just measuring."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._folder.cleanup()

    def beside(self, cells: Iterable[Cell]) -> list[Cell]:
        """The cells, each of ours followed by the other build's. Both get all the rounds."""
        found = []
        for cell in cells:
            if names_of(cell) in self._cells and cell.kind == OURS:
                found += [dataclasses.replace(cell, slow=False), self._cell(cell)]
            else:
                found.append(cell)
        return found

    def _cell(self, ours: Cell) -> Cell:
        subject = ours.subject + OTHER_SUFFIX
        return dataclasses.replace(
            ours, subject=subject, kind=OTHER, slow=False, measure=lambda: self._measure(ours)
        )

    def _measure(self, cell: Cell) -> dict[str, float]:
        with contextlib.suppress(BrokenPipeError):  # then it has ended, and its answer says so
            print(json.dumps(names_of(cell)), file=self._process.stdin, flush=True)
        return dict(self._answer()["values"])

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            last_words = self._errors.read_text().strip().splitlines()[-1:]
            raise RunFailed(": ".join(["the other build's process ended", *last_words])[:300])
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise RunFailed(found["error"])
        return found


def names_of(cell: Cell) -> tuple[str, ...]:
    return cell.part, cell.case, cell.subject


def serve(requests: TextIO, answers: TextIO, cells: Mapping[tuple[str, ...], Cell]) -> None:
    """Measure what each line of `requests` names, until there are no more."""

    def answer(**found: Any) -> None:
        print(json.dumps(found), file=answers, flush=True)

    answer(description=build_of(), cells=list(cells))
    for line in requests:
        try:
            answer(values=cells[tuple(json.loads(line))].measure())
        except Exception as error:  # whatever the other build lacks: the row says so
            answer(error=f"{type(error).__name__}: {str(error)[:300]}")


def main() -> None:
    """The other Python's side."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is under way is cleaned up
    request = json.loads(sys.argv[1])
    effort = workloads.Effort(request["seconds"], request["quick"])
    cells = {names_of(cell): cell for cell in workloads.cells(request["parts"], effort) if cell.kind == OURS}
    limits.folder()  # built here, or every run would build them again
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that nothing a workload prints looks like an answer
    with contextlib.suppress(KeyboardInterrupt):
        serve(sys.stdin, answers, cells)


if __name__ == "__main__":
    main()
