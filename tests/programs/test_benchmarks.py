"""The benchmarks: every workload of ours runs, wrong frames are noticed, nothing is left behind."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TREE = Path(__file__).parents[2]
sys.path.append(str(TREE))  # behind everything else: an installed shmring stays the one that is tested

if shutil.which(os.environ.get("CC", "cc")) is None:
    pytest.skip("the limits need a C compiler", allow_module_level=True)

from benchmarks import against, broadcast, limits, patterns, queues, tutorial, workloads  # noqa: E402
from benchmarks.adapters import ours  # noqa: E402
from benchmarks.harness import cells, frames, isolation, runs, suite  # noqa: E402
from benchmarks.reporting import comparison, pages, plots, results, targets  # noqa: E402

pytestmark = pytest.mark.slow

TINY = workloads.Effort(seconds=0.0002, quick=True)
HEAVY = (
    "32 MiB",
    "256 KiB",
    "4K",
    "256 MiB",
    "1,000,000",
    "1 to 8",
    "of 1024",
)  # the same code as their lighter neighbours


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    assert isolation.existing(isolation.OURS) == set()


@pytest.fixture(scope="module", autouse=True)
def quick_compiler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The limits are built once for all tests, and in a hurry: nobody looks at the figures."""
    compiler = tmp_path_factory.mktemp("compiler") / "cc"
    compiler.write_text(f'#!/bin/sh\nexec {limits.compiler()} "$@" -O0\n')
    compiler.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC", str(compiler))
        limits.folder()
        yield


# ---- workloads


def measure(chosen: list[cells.Cell]) -> None:
    assert chosen
    for cell in chosen:
        values = cell.measure()
        assert set(cell.units) <= set(values), cell
        assert all(math.isfinite(values[metric]) for metric in cell.units), (cell, values)
        assert all(values[metric] > 0 for metric in cell.units if metric == "frames"), (cell, values)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others may be busy on this machine."""
    monkeypatch.setattr(isolation, "LIMIT_S", 100.0)


def test_each_kind_of_run_works(patient) -> None:
    """A stream by copy and in place, the same from C, calls in one process, ping-pong."""
    kinds = {"64 B, one per call", "64 B in place", "calls in one process, 64 B", "64 B, spinning"}
    measure([cell for cell in workloads.cells(["cost", "latency"], TINY) if cell.case in kinds])


@pytest.mark.stress
def test_members_of_a_group_and_held_frames(patient) -> None:
    """A member's get beside an ordinary one, a pool on slow frames, as many held frames as spare slots."""
    held = "64 B, 8 frames held, 8 spare slots"
    measure(
        [
            cell
            for cell in workloads.cells(["groups", "disturb"], TINY)
            if cell.case == held or cell.part == "groups"
        ]
    )


def test_attaching_beside_shared_memory(patient) -> None:
    """SharedMemory opens the same block, and neither it nor its resource tracker removes it."""
    measure([cell for cell in workloads.cells(["setup"], TINY) if cell.case == "ring of 1 MiB"])


@pytest.mark.stress
@pytest.mark.parametrize("part", [part for part in workloads.NAMES if part != "instructions"])
def test_every_workload_runs(part: str, patient) -> None:
    measure([cell for cell in workloads.cells([part], TINY) if not any(word in cell.case for word in HEAVY)])


@pytest.mark.stress
def test_objects_through_a_queue_and_through_pipes() -> None:
    case = broadcast.Case("1 MiB", 1 << 20, readers=4, objects=2)
    row = broadcast.as_row(case, broadcast.run_case(case, rounds=1))
    assert row["queue"]["median"] > 0
    assert "target 5" in broadcast.table([row])


@pytest.mark.stress
def test_pages_beside_a_recorder() -> None:
    pytest.importorskip("uvicorn", reason="needs the extra view")
    from benchmarks import view

    rows = view.run(rounds=1, quick=True)
    assert [row["beside"] for row in rows] == [one.label for one in [view.NOTHING, *view.LOOKERS]] * 2
    assert all(row["recorder"]["median"] > 0 for row in rows)
    assert "target 0.97" in view.table(rows)


@pytest.mark.stress
def test_codecs_alone_and_in_recordings(tmp_path: Path, zarr_thread) -> None:
    pytest.importorskip("hdf5plugin", reason="needs the extra codecs")
    from benchmarks import disk

    rows = disk.run_compressed(1, 10_000_000, tmp_path, ["detector"])
    assert len(rows) == 3 * 4  # comparisons; formats and codecs
    assert all(row[column]["median"] > 0 for row in rows for column in ("recorder", "other", "ratio"))
    assert [*tmp_path.glob("*.zarr"), *tmp_path.glob("plain")] == []
    assert "detector, .h5, zstd" in disk.table(rows)


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
def test_instructions_are_read_from_callgrinds_files(tmp_path: Path) -> None:
    from benchmarks.workloads import instructions

    for number, (name, total) in enumerate(
        {"empty 10 10": 1000, "put 10 10": 5000, "batch 2 20": 4200}.items()
    ):
        text = f"desc: Trigger: Client Request: {name}\nevents: Ir\nsummary: {total}\n"
        (tmp_path / f"counts.{number}").write_text(text)
    assert instructions.per_operation(tmp_path) == {"put": 400, "batch": 200}


# ---- payloads


class Faulty(ours.Shmring):
    """Does to message 100 what a broken transport might do."""

    def __init__(self, fault: str):
        super().__init__()
        self.fault = fault

    def sender(self, job, link):
        sender = super().sender(job, link)
        put, numbers = sender.send, itertools.count()

        def send(payload):
            number = next(numbers)
            if number != 100:
                put(payload)
            elif self.fault == "doubled":
                put(payload)
                put(payload)
            elif self.fault == "damaged":
                damaged = payload.copy()
                damaged[3] += 1
                put(damaged)
            elif self.fault == "renumbered":
                wrong = payload.copy()
                wrong[0] += 1
                put(wrong)

        sender.send = send
        return sender


@pytest.mark.parametrize("fault", ["lost", "doubled", "damaged", "renumbered"])
@pytest.mark.parametrize("nbytes", [64, pytest.param(1 << 17, marks=pytest.mark.stress)])
def test_wrong_frames_are_noticed(fault: str, nbytes: int) -> None:
    with pytest.raises(isolation.RunFailed, match="WrongFrame: frame"):
        runs.stream(Faulty(fault), nbytes=nbytes, slots=8, reads="all", seconds=0.5, most=20_000)


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("nbytes", [64, 1 << 16])
def test_payloads_pass_their_own_check(batch: int, nbytes: int) -> None:
    checked = frames.Frames(ours.Shmring(batch=batch), nbytes)
    for number, payload in enumerate(checked.stream(0, 5)):
        checked.check(payload, number, True)
        with pytest.raises(frames.WrongFrame):
            checked.check(payload, number + 1, True)


# ---- runs that go wrong


class Hangs(ours.Shmring):
    def receiver(self, job, link, index):
        receiver = super().receiver(job, link, index)
        receiver.recv = lambda: time.sleep(1000)
        return receiver


class Dies(ours.Shmring):
    def receiver(self, job, link, index):
        os.kill(os.getpid(), 9)


@pytest.mark.stress
def test_a_run_that_hangs_is_killed_with_all_that_it_left(monkeypatch) -> None:
    monkeypatch.setattr(isolation, "LIMIT_S", 0.2)
    with pytest.raises(isolation.RunFailed, match="no result within 0 s: killed"):
        runs.stream(Hangs(), nbytes=64, slots=64, seconds=0.01)


def test_a_process_that_dies_is_reported() -> None:
    with pytest.raises(isolation.RunFailed, match="a process died"):
        runs.stream(Dies(), nbytes=64, slots=64, seconds=0.01)


def test_a_failed_cell_becomes_a_row_with_its_error() -> None:
    def fail() -> dict[str, float]:
        raise isolation.RunFailed("it broke")

    cell = cells.Cell("cost", "a case", "a peer", cells.PEER, fail, {"frames": "frames/s"})
    (row,) = suite.run([cell], rounds=3)
    assert (row["error"], row["values"]) == ("it broke", [])


# ---- another build


@pytest.mark.stress
def test_another_build_is_measured_beside_each_cell_of_ours() -> None:
    memory = [cell for cell in workloads.cells(["setup"], TINY) if cell.case == "memory beyond the frames"]
    limit = cells.Cell("setup", "a case", "a limit", cells.LIMIT, lambda: {"x": 1.0}, {"x": "ns"})
    with against.OtherBuild(sys.executable, ["setup"], TINY) as other:
        beside = other.beside([*memory, limit])
        rows = suite.run(beside, rounds=1)
        other._process.kill()
        other._process.wait()
        without = suite.run(beside, rounds=1)
    names = [(cell.subject, cell.kind) for cell in beside]
    assert names == [("shmring", "ours"), ("shmring, other build", "other"), ("a limit", "limit")]
    assert "commit" in other.description
    assert results.comparison_lines(rows) == [
        ["memory beyond the frames", "shmring", "per_ring, bytes", "8,192", "8,192", "1", "1", "1", ""],
        ["memory beyond the frames", "shmring", "per_slot, bytes", "96", "96", "1", "1", "1", ""],
    ]
    assert {row["error"] for row in without} == {"", "the other build's process ended"}
    assert results.comparison_lines(without) == []


def test_a_python_that_cannot_measure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(against.Refused, match="No such file or directory"):
        against.OtherBuild(str(tmp_path / "python"), ["cost"], TINY)
    without = tmp_path / "without"
    without.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')  # has no installed packages
    without.chmod(0o700)
    with pytest.raises(against.Refused, match="cannot measure: the other build's process ended: Module"):
        against.OtherBuild(str(without), ["cost"], TINY)


def test_a_ratio_is_better_only_if_every_round_says_so() -> None:
    assert comparison.verdict([0.5, 0.7, 0.9], "ns") == "better"
    assert comparison.verdict([0.5, 0.7, 0.9], "frames/s") == "worse"
    assert comparison.verdict([1.1, 1.1, 1.2], "frames/s") == "better"
    assert comparison.verdict([0.9, 1.1, 1.2], "frames/s") == ""
    assert comparison.verdict([1.1, 1.2], "frames/s") == ""


# ---- verdicts and tables


def row(
    case: str, subject: str, kind: str, values: list[float], part="cost", metric="frames", unit="frames/s"
):
    made = cells.Row(
        part, case, subject, kind, metric, unit, "settings", values, [(70.0, 80.0)] * len(values)
    )
    return made.as_json()


def some_rows():
    return [
        row("64 B, one per call", "shmring", "ours", [6.0e6, 9.0e6, 7.0e6]),
        row("64 B, one per call", "plain C ring", "limit", [10e6, 10e6, 10e6]),
        row("64 B, one per call", "slow", "peer", [0.5e6, 0.5e6, 0.5e6]),
        row("64 B, one per call", "quick", "peer", [1.0e6, 2.0e6, 1.0e6]),
        row("64 B, one per call", "broken", "peer", []),
        row("64 B, a frame held", "shmring", "ours", [0.5, 0.6, 0.7], "disturb", "of_alone", "x"),
    ]


def test_a_target_is_judged_round_by_round() -> None:
    found = {target["target"]: target for target in targets.judge(some_rows())}
    ratio = found["64 B, one per call: times the best Python peer"]
    assert (ratio["median"], ratio["min"], ratio["max"], ratio["met"]) == (6.0, 4.5, 7.0, True)
    assert found["64 B, a frame held: throughput of that without"]["met"] is False
    assert found["import: of numpy's"]["why"].startswith("not run: setup")


def test_every_target_has_its_rows() -> None:
    """Under the names that the workloads give them; the best peer of a run without peers is not there."""
    rows = [
        row(cell.case, cell.subject + suffix, kind, [1.0], cell.part, metric)
        for cell in workloads.cells(list(workloads.NAMES), workloads.Effort())
        for suffix, kind in (("", cell.kind), (cells.OTHER_SUFFIX, cells.OTHER))
        if cell.kind == cells.OURS or kind == cell.kind
        for metric in cell.units
    ]
    why = [target["why"] for target in targets.judge(rows) if target["met"] is None]
    assert [reason for reason in why if not reason.startswith("no peer ran")] == []


def test_targets_against_layout_1_are_judged_only_beside_another_build() -> None:
    mine = row("calls in one process, 64 B", "shmring", "ours", [30.0, 40.0], metric="put", unit="ns")
    other = row(mine["case"], "shmring, other build", "other", [60.0, 50.0], metric="put", unit="ns")
    assert not any("other build" in target["target"] for target in targets.judge([mine]))
    found = {target["target"]: target for target in targets.judge([mine, other])}
    put = found["put: of the other build"]
    assert (put["median"], put["min"], put["max"], put["met"]) == (0.65, 0.5, 0.8, True)


def test_a_result_is_a_fraction_of_its_limit() -> None:
    rows = some_rows()
    assert cells.fraction(rows[0], rows[1]) == 0.7
    times = [
        row("x", name, "ours", [value], metric="p50", unit="ns")
        for name, value in (("a", 500.0), ("b", 100.0))
    ]
    assert cells.fraction(times[0], times[1]) == 0.2


def test_the_report_fills_readme_and_document(tmp_path: Path) -> None:
    rows = some_rows()
    facts = dict.fromkeys(("processor", "kernel", "python", "cores"), "?")
    result = {
        "machine": facts, "rounds": 3, "seconds_per_run": 0.1, "rows": rows, "versions": {},
        "absent": [{"name": "gone", "error": "not installed: gone"}], "targets": targets.judge(rows),
    }  # fmt: skip
    json.dumps(result)
    assert "gone: not installed: gone" in pages.results_page("run", result)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- benchmarks -->\nold\n<!-- /benchmarks -->\nafter\n")
    pages.put_between(page, "benchmarks", pages.readme_block("run", result))
    text = page.read_text()
    assert text.startswith("before\n<!-- benchmarks -->\n")
    assert text.endswith("<!-- /benchmarks -->\nafter\n")
    assert "old" not in text
    table = pages.readme_block("run", result)
    assert "7,000,000 frames/s (6,000,000 to 9,000,000)" in table
    assert "(quick)" in table
    assert "NOT met" in results.as_text(result)


RUNS = sorted((TREE / "benchmarks" / "results").glob("*.json"), key=lambda run: run.stem)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.stem)
def test_every_run_has_its_page(run: Path) -> None:
    page = TREE / "docs" / "results" / f"{run.stem}.md"
    result = json.loads(run.read_text())
    assert page.read_text() == pages.results_page(run.stem, result)
    drawn = {path.name for path in (page.parent / run.stem).iterdir()}
    assert drawn == {picture.file for picture in plots.pictures(result)}


def test_pictures_show_the_other_build_in_bars_and_this_one_alone_in_lines() -> None:
    result = json.loads((TREE / "benchmarks" / "results" / "2026-11-30.json").read_text())
    kinds = {
        picture.file: {row["kind"] for row in picture.fill.keywords["rows"]}
        for picture in plots.pictures(result)
    }
    assert "other" in kinds["small-frames.svg"]
    assert kinds["scaling-slots.svg"] == {"ours"}
    assert set.union(*kinds.values()) <= plots.COLOURS.keys()


@pytest.mark.parametrize(
    ("page", "block"),
    [("README.md", pages.readme_block), ("docs/comparison.md", pages.comparison_block)],
)
def test_a_page_has_the_newest_run(page: str, block: Callable[[str, dict[str, Any]], str]) -> None:
    text = block(RUNS[-1].stem, json.loads(RUNS[-1].read_text()))
    assert f"<!-- benchmarks -->\n{text}\n<!-- /benchmarks -->" in (TREE / page).read_text()


# ---- programs of their own


@pytest.mark.parametrize("subject", queues.subjects(), ids=lambda subject: subject.name)
@pytest.mark.stress
def test_each_queue_brings_every_item_to_one_getter(subject: queues.Subject) -> None:
    assert isolation.isolated(lambda: queues.rate(subject, 1 << 16, 2, 40)) > 0


@pytest.mark.stress
def test_the_steps_of_the_tutorial_are_measured(tmp_path: Path) -> None:
    tutorial.write_programs(tmp_path)
    assert {path.stem for path in tmp_path.glob("*.py")} == set(tutorial.STEPS)
    assert tutorial.seconds(tmp_path, "with_ring", 3) > 0
    rows = [
        {"step": step, "frames/s": [10.0 * (place + 1), 30.0]} for place, step in enumerate(tutorial.STEPS)
    ]
    assert "| with_ring_queue | 25 (20 to 30) | 1.5 (1 to 2) |" in tutorial.table(rows)


@pytest.mark.stress
def test_each_pattern_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "FRAMES", 4)
    rows = isolation.isolated(lambda: patterns.run(1, 0))
    assert [row["pattern"] for row in rows] == [*patterns.PATTERNS]
    assert all(row["shmring us"]["median"] > 0 for row in rows)
    assert "ShareableList" in patterns.table(rows)
