"""Whether each fence, release, acquire and re-check of the headers is needed, and tested.

    python tests/provers/mutants.py [--quick] [--only 'release head' ...]

Each mutant is a copy of the headers with one of them removed or weakened. The checks that can see it run
until one fails: the litmus tests that name its label, then all of them, then, for what is not a matter of
memory order, the programs of provers/c. First of all they must pass without a mutant. A check that does not
end has failed, and the table says so. Prints that table in Markdown; exits with 1 if a mutant survives that
SURVIVORS does not explain, or if one is caught that it lists. --quick runs only the litmus tests that name
the label, of a re-check only the check that RECHECKS names, and leaves out what SURVIVORS lists.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mutants_known import RECHECKS, SURVIVORS
from source_labels import ACCESS, Edge, in_order, spans, split, statements

HERE = Path(__file__).parent
INCLUDE = HERE.parents[1] / "shmring" / "include"
PROGRAMS: dict[str, list[str]] = {
    "selftest": ["OPTIMISE=-O0"],  # to optimise it takes longer than to run it
    "steps": [],
    "steps_groups": [],
    "stress": ["DURATION=5"],
}
LITMUS_TIME = re.compile(r"^(\w+) .*\| *([\d.]+) s \|", re.MULTILINE)
# So that the C programs see a mutated RMW: the orders that no header asks for.
MORE_SPELLINGS = """
#ifndef SHMRING_ATOMIC_SPELLING
#define shmring_fetch_and_relaxed(address, bits) __atomic_fetch_and((address), (bits), __ATOMIC_RELAXED)
#define shmring_fetch_add_relaxed(address, more) __atomic_fetch_add((address), (more), __ATOMIC_RELAXED)
#endif
"""


@dataclass(frozen=True)
class Change:
    """Text of one header, and what replaces it."""

    file: str
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Mutant:
    """One mistake in the headers."""

    label: str
    what: str
    function: str  # where its last change is
    changes: tuple[Change, ...]
    ordinal: int = 0  # among mutants of the same label in the same function
    first: str = ""  # the check that is tried first, of a re-check

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.label, self.function, self.ordinal)


def function_at(source: str, at: int) -> str:
    """The function that a place in a header belongs to: its name starts a line."""
    names = re.findall(r"^(shmring_\w+)\(", source[:at], re.MULTILINE)
    return names[-1] if names else "-"


def label_mutants(name: str, source: str) -> Iterator[Mutant]:
    """Each release and acquire of a header made relaxed, each fence removed."""
    code, _ = split(source)
    found = list(statements(name, source))
    accessing = [span for span in spans(code) if ACCESS.search(code[span[0] : span[1]])]
    for (start, end), statement in zip(accessing, found, strict=True):
        for match in ACCESS.finditer(code, start, end):
            if match["order"] == "relaxed":
                continue
            kind = "fence" if match["fence"] else match["order"]
            label = next(str(label) for label in statement.labels if label.kind == kind)
            if kind == "fence":
                what, start = "no fence", match.start()
                change = Change(name, start, code.index(")", match.end()) + 1, "((void)0)")
            else:
                what, start = f"{match['order']} -> relaxed", match.start("order")
                change = Change(name, start, match.end(), "relaxed")
            yield Mutant(label, what, function_at(code, start), (change,))


def recheck_mutants(sources: dict[str, str]) -> Iterator[Mutant]:
    """The changes that mutants_known.py lists; an error if one does not fit the headers any more."""
    for name, first, texts in RECHECKS:
        changes = []
        for old, new in texts:
            words = r"\s*".join(map(re.escape, re.findall(r"\w+|\S", old)))  # lines may break elsewhere
            found = [
                (file, match) for file, source in sources.items() for match in re.finditer(words, source)
            ]
            if len(found) != 1:
                sys.exit(f"mutants_known.py is out of date: {name}: {len(found)} times {old!r}")
            file, match = found[0]
            changes.append(Change(file, match.start(), match.end(), new))
        function = function_at(sources[file], match.start())
        yield Mutant(name, "re-check", function, tuple(changes), first=first)


def all_mutants(include: Path) -> list[Mutant]:
    """Every mutant, numbered within its function."""
    folder = include / "shmring"
    sources = {path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*.h"))}
    del sources["internal/atomic.h"]
    found = [mutant for name, source in sources.items() for mutant in label_mutants(name, source)]
    found += recheck_mutants(sources)
    numbered: list[Mutant] = []
    for mutant in found:
        same = sum(mutant.key[:2] == other.key[:2] for other in numbered)
        numbered.append(Mutant(**{**mutant.__dict__, "ordinal": same}))
    return numbered


def litmus_edges(text: str) -> set[Edge]:
    """The edges that a litmus test names: a word, or two fences with a hyphen between them."""
    return {in_order(*edge.split("-")) for edge in text.split(", ")}


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    good: bool
    hung: bool
    said: str


def run(*command: str, limit: float = 600) -> Outcome:
    """Run a command; one that does not end within `limit` seconds is killed, with all that it started."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
            return Outcome(False, True, said)
    return Outcome(process.returncode == 0, False, said)


def failed_litmus(ended: Outcome) -> str:
    """The first of the litmus tests that ran and failed, or nothing."""
    if ended.good:
        return ""
    failed = re.search(r"^(\w+) .*FAILED$", ended.said, re.MULTILINE)
    return f"litmus {failed[1]}" if failed else f"litmus ({'hung' if ended.hung else 'crashed'})"


class Trial:
    """Builds and runs the checks against the headers of a folder, and against mutants of them."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder = folder
        self.quick = quick
        self.limit = 600.0
        self.build(folder / "whole", folder / "include", folder / "whole" / "explore.o")
        names = run(str(folder / "whole" / "litmus"), "-n").said
        self.edges = dict(line.split("|") for line in names.splitlines())
        self.seconds = dict.fromkeys(self.edges, 0.0)  # of each litmus test without a mutant
        sources = {path.stem: path.read_text() for path in (HERE / "litmus").glob("*.c")}
        self.file_of = {
            test: next(stem for stem, text in sources.items() if f'{{"{test}",' in text)
            for test in self.edges
        }

    def build(self, out: Path, include: Path, explorer: Path, *files: str) -> None:
        """The litmus tests of all files, or of the named ones."""
        settings = [f"OUT={out}", f"INCLUDE={include}", f"EXPLORER={explorer}"]
        if files:
            settings.append(f"NAMES=ring {' '.join(files)}")
        (out / "litmus").unlink(missing_ok=True)  # it may be of other files
        built = run("make", "-s", "-C", str(HERE / "litmus"), *settings, "build")
        if not built.good:
            sys.exit(f"the litmus tests do not compile with {include}:\n{built.said}")

    def check_baseline(self, pool: ThreadPoolExecutor, programs: list[str]) -> None:
        """What fails without a mutant says nothing about one; how long the slowest takes says what hangs."""
        checks = [pool.submit(self.time_litmus)]
        include = self.folder / "include"
        checks += [pool.submit(self.program, self.folder / "whole", include, name) for name in programs]
        began = time.monotonic()
        for check in checks:
            if check.result():
                sys.exit(f"{check.result()} fails without a mutant: nothing can be said about any of them")
        self.limit = max(120.0, 10 * (time.monotonic() - began))

    def time_litmus(self) -> str:
        """Every litmus test without a mutant: what fails, or nothing, and how long each takes."""
        ended = run(str(self.folder / "whole" / "litmus"))
        self.seconds |= {name: float(took) for name, took in LITMUS_TIME.findall(ended.said)}
        return failed_litmus(ended)

    def naming(self, label: str) -> list[str]:
        """The litmus tests that name an edge of a label, the quickest first: one that fails is enough."""
        kind, _, end = label.partition(" ")
        found = [
            name
            for name, edges in self.edges.items()
            if any(end in edge and len(edge) == (2 if kind == "fence" else 1) for edge in litmus_edges(edges))
        ]
        return sorted(found, key=self.seconds.__getitem__)

    def caught_by(self, mutant: Mutant) -> str:
        """The check that fails for a mutant, or nothing."""
        out = Path(tempfile.mkdtemp(dir=self.folder))
        shutil.copytree(self.folder / "include", out / "include")
        for change in sorted(mutant.changes, key=lambda change: change.start, reverse=True):
            target = out / "include" / "shmring" / change.file
            source = target.read_text()
            target.write_text(source[: change.start] + change.text + source[change.end :])
        atomic = out / "include" / "shmring" / "internal" / "atomic.h"
        atomic.write_text(atomic.read_text() + MORE_SPELLINGS)
        try:
            return self.first_failure(mutant, out)
        finally:
            shutil.rmtree(out)

    def first_failure(self, mutant: Mutant, out: Path) -> str:
        if mutant.first in PROGRAMS:
            caught = self.program(out, out / "include", mutant.first)
            if caught or self.quick:
                return caught
        explorer = self.folder / "whole" / "explore.o"
        first = [mutant.first] if mutant.first in self.edges else self.naming(mutant.label)
        for file in dict.fromkeys(self.file_of[test] for test in first):  # each takes seconds to compile
            self.build(out, out / "include", explorer, file)
            if caught := self.litmus(out, [test for test in first if self.file_of[test] == file]):
                return caught
        if self.quick and first:
            return ""
        self.build(out, out / "include", explorer)
        caught = self.litmus(out, [])
        if caught or self.quick or "relaxed" in mutant.what:
            return caught  # the C programs run in the order of the program, or in that of this machine
        return next(filter(None, (self.program(out, out / "include", name) for name in PROGRAMS)), "")

    def litmus(self, out: Path, names: list[str]) -> str:
        """The first of the named litmus tests, or of all, that fails."""
        ended = run(str(out / "litmus"), "-x", *names, limit=self.limit)
        return failed_litmus(ended)

    def program(self, out: Path, include: Path, name: str) -> str:
        """The name of a C program if it fails."""
        settings = [f"OUT={out / 'c'}", f"INCLUDE={include}", "OPTIMISE=-O1", "WARNINGS=-w", "LIMIT="]
        command = ["make", "-s", "-C", str(HERE / "c"), *settings, *PROGRAMS[name], f"run-native-{name}"]
        ended = run(*command, limit=self.limit)
        return "" if ended.good else f"C {name}" + (" (hung)" if ended.hung else "")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the form for CI: minutes less")
    parser.add_argument("--only", nargs="+", default=[], metavar="LABEL", help="only mutants of these labels")
    wishes = parser.parse_args()
    began = time.monotonic()
    wrong = 0
    with (
        tempfile.TemporaryDirectory(prefix="shmring-mutants-") as folder,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        shutil.copytree(INCLUDE, Path(folder) / "include")  # nobody changes it while this runs
        mutants = [
            mutant
            for mutant in all_mutants(Path(folder) / "include")
            if not wishes.only or mutant.label in wishes.only
        ]
        left_out = sum(mutant.key in SURVIVORS for mutant in mutants) if wishes.quick else 0
        if wishes.quick:
            mutants = [mutant for mutant in mutants if mutant.key not in SURVIVORS]
        trial = Trial(Path(folder), wishes.quick)
        wanted = {mutant.first for mutant in mutants}
        trial.check_baseline(pool, [name for name in PROGRAMS if name in wanted or not wishes.quick])
        print("| label | mutation | where | caught by |\n|---|---|---|---|")
        for mutant, caught in zip(mutants, pool.map(trial.caught_by, mutants), strict=True):
            known = SURVIVORS.get(mutant.key)
            verdict = caught or (f"nothing: {known}" if known else "**NOTHING**")
            if caught and known:
                verdict += " (listed as a survivor)"
            wrong += bool(caught) == bool(known)
            number = f" ({mutant.ordinal + 1})" if mutant.ordinal else ""
            where = f"{mutant.changes[-1].file}:{mutant.function}{number}"
            print(f"| {mutant.label} | {mutant.what} | {where} | {verdict} |", flush=True)
    children = os.times()
    print(
        f"\n{len(mutants)} mutants, {wrong} unexplained, {left_out} listed survivors left out; "
        f"{time.monotonic() - began:.0f} s, "
        f"{children.children_user + children.children_system:.0f} s of CPU"
    )
    sys.exit(wrong != 0)


if __name__ == "__main__":
    main()
