"""Whether each fence, release, acquire and re-check of the headers is needed, and tested.

    python tests/mutants.py [--quick] [--only R1 ...]

Each mutant is a copy of the headers with one of them removed or weakened. The checks that can see it run
until one fails: the litmus tests that name its label, then all of them, then, for what is not a matter of
memory order, the C programs of tests/c. Prints a table; exits with 1 if a mutant survives that SURVIVORS does
not explain, or if one is caught that it lists. --quick runs only the litmus tests that name the label,
and leaves the C programs out.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mutants_known import RECHECKS, SURVIVORS
from source_labels import ACCESS, spans, split, statements

HERE = Path(__file__).parent
INCLUDE = HERE.parent / "shmring" / "include"
PROGRAMS = [("selftest", []), ("steps", []), ("stress", ["DURATION=5"])]
# So that the C programs see a mutated RMW: the orders that no header asks for.
MORE_SPELLINGS = """
#ifndef SHMRING_ATOMIC_SPELLING
#define shmring_fetch_and_relaxed(address, bits) __atomic_fetch_and((address), (bits), __ATOMIC_RELAXED)
#define shmring_fetch_add_relaxed(address, more) __atomic_fetch_add((address), (more), __ATOMIC_RELAXED)
#endif
"""


@dataclass(frozen=True)
class Mutant:
    """One change of one header."""

    label: str
    what: str
    file: str
    function: str
    start: int
    end: int
    text: str
    ordinal: int  # among mutants of the same label in the same function

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.label, self.function, self.ordinal)


def function_at(source: str, at: int) -> str:
    """The function that a place in a header belongs to: its name starts a line."""
    names = re.findall(r"^(shmring_\w+)\(", source[:at], re.MULTILINE)
    return names[-1] if names else "-"


def label_mutants(path: Path) -> Iterator[Mutant]:
    """Each release and acquire of a header made relaxed, each fence removed."""
    source = path.read_text()
    code, _ = split(source)
    labels = [
        [label.name for label in found.labels if label.name != "-"] for found in statements(path.name, source)
    ]
    accessing = [span for span in spans(code) if ACCESS.search(code[span[0] : span[1]])]
    for (start, end), names in zip(accessing, labels, strict=True):
        for match in ACCESS.finditer(code, start, end):
            if match["order"] == "relaxed":
                continue
            kind = "F" if match["fence"] else {"release": "R", "acquire": "A"}[match["order"]]
            label = next(name for name in names if name.startswith(kind))
            if kind == "F":
                stop = code.index(")", match.end()) + 1
                yield Mutant(
                    label,
                    "no fence",
                    path.name,
                    function_at(code, start),
                    match.start(),
                    stop,
                    "((void)0)",
                    0,
                )
            else:
                at = match.start("order")
                yield Mutant(
                    label,
                    f"{match['order']} -> relaxed",
                    path.name,
                    function_at(code, start),
                    at,
                    match.end(),
                    "relaxed",
                    0,
                )


def recheck_mutants(include: Path) -> Iterator[Mutant]:
    """The changes that mutants_known.py lists; an error if one does not fit the headers any more."""
    for name, file, old, new in RECHECKS:
        source = (include / "shmring" / file).read_text()
        if source.count(old) != 1:
            sys.exit(f"mutants_known.py is out of date: {name}: {file} has {source.count(old)} times {old!r}")
        at = source.index(old)
        yield Mutant(name, "re-check", file, function_at(source, at), at, at + len(old), new, 0)


def all_mutants(include: Path) -> list[Mutant]:
    """Every mutant, numbered within its function."""
    found: list[Mutant] = []
    for path in sorted((include / "shmring").glob("*.h")):
        if path.name != "atomic.h":
            found += label_mutants(path)
    found += recheck_mutants(include)
    numbered: list[Mutant] = []
    for mutant in found:
        same = sum(mutant.key[:2] == other.key[:2] for other in numbered)
        numbered.append(Mutant(**{**mutant.__dict__, "ordinal": same}))
    return numbered


def run(*command: str, limit: int = 300) -> tuple[bool, str]:
    """Whether a command succeeded, and what it printed. To run out of time is to fail: a hang."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return False, "it hung"
    return done.returncode == 0, done.stdout + done.stderr


class Trial:
    """Builds and runs the checks against mutated headers."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder = folder
        self.quick = quick
        whole = [f"OUT={folder / 'whole'}", f"INCLUDE={folder / 'include'}"]
        good, said = run("make", "-s", "-C", str(HERE / "litmus"), *whole, "build")
        if not good:
            sys.exit(said)
        names = run(str(folder / "whole" / "litmus"), "-n")[1]
        self.edges = dict(line.split("|") for line in names.splitlines())

    def naming(self, label: str) -> list[str]:
        """The litmus tests that name a label."""
        return [name for name, edges in self.edges.items() if re.search(rf"\b{label}\b", edges)]

    def caught_by(self, mutant: Mutant) -> str:
        """The check that fails for a mutant, or nothing."""
        out = Path(tempfile.mkdtemp(dir=self.folder))
        shutil.copytree(self.folder / "include", out / "include")
        target = out / "include" / "shmring" / mutant.file
        source = target.read_text()
        target.write_text(source[: mutant.start] + mutant.text + source[mutant.end :])
        atomic = out / "include" / "shmring" / "atomic.h"
        atomic.write_text(atomic.read_text() + MORE_SPELLINGS)
        try:
            return self.litmus(mutant, out) or ("" if self.quick else self.programs(mutant, out))
        finally:
            shutil.rmtree(out)

    def litmus(self, mutant: Mutant, out: Path) -> str:
        explorer = f"EXPLORER={self.folder / 'whole' / 'explore.o'}"
        settings = [f"OUT={out}", f"INCLUDE={out / 'include'}", explorer]
        good, said = run("make", "-s", "-C", str(HERE / "litmus"), *settings, "build")
        if not good:
            sys.exit(f"{mutant} does not compile:\n{said}")
        first = self.naming(mutant.label)
        for names in [first] if self.quick and first else [first, []] if first else [[]]:
            good, said = run(str(out / "litmus"), "-x", *names)
            failed = re.search(r"^(\w+) .*FAILED$", said, re.MULTILINE)
            if not good:
                return f"litmus {failed[1]}" if failed else "litmus (crash or hang)"
        return ""

    def programs(self, mutant: Mutant, out: Path) -> str:
        if "relaxed" in mutant.what:
            return ""  # they run in the order of the program, or in that of this machine
        for program, arguments in PROGRAMS:
            settings = [
                f"OUT={out / 'c'}",
                f"INCLUDE={out / 'include'}",
                "OPTIMISE=-O1",
                "WARNINGS=-w",
                *arguments,
            ]
            if not run("make", "-s", "-C", str(HERE / "c"), *settings, f"run-native-{program}")[0]:
                return program
        return ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="only the litmus tests that name the label")
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
        if wishes.quick:
            mutants = [mutant for mutant in mutants if mutant.key not in SURVIVORS]
        trial = Trial(Path(folder), wishes.quick)
        print("| label | mutation | where | caught by |\n|---|---|---|---|")
        for mutant, caught in zip(mutants, pool.map(trial.caught_by, mutants), strict=True):
            known = SURVIVORS.get(mutant.key)
            verdict = caught or (f"nothing: {known}" if known else "**NOTHING**")
            if caught and known:
                verdict += " (listed as a survivor)"
            wrong += bool(caught) == bool(known)
            number = f" ({mutant.ordinal + 1})" if mutant.ordinal else ""
            where = f"{mutant.file}:{mutant.function}{number}"
            print(f"| {mutant.label} | {mutant.what} | {where} | {verdict} |", flush=True)
    children = os.times()
    print(
        f"\n{len(mutants)} mutants, {wrong} unexplained; {time.monotonic() - began:.0f} s, "
        f"{children.children_user + children.children_system:.0f} s of CPU"
    )
    sys.exit(wrong != 0)


if __name__ == "__main__":
    main()
