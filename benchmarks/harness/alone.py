"""The command line of a comparison that is not part of the suite: python -m benchmarks.NAME."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import machine

Rows = list[dict[str, Any]]


def main(
    name: str,
    about: str | None,
    run: Callable[[int, bool], Rows],
    table: Callable[[Rows], str],
    *,
    rounds: int,
    packages: tuple[str, ...] = (),
) -> None:
    """Print the machine and the table of `run(rounds, quick)`; write both to a file if that is asked for."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"interleaved rounds (default {rounds})")
    parser.add_argument("--quick", action="store_true", help="little work and one round: does it run at all?")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    facts = {**machine.describe(), **{package: machine.version_of(package) for package in packages}}
    for key, value in facts.items():
        print(f"{key}: {value}")
    wanted = 1 if options.quick else options.rounds
    rows = run(wanted, options.quick)
    print(table(rows))
    if options.json:
        facts["load after"] = machine.load()
        result = {"machine": facts, "rounds": wanted, "rows": rows}
        options.json.write_text(json.dumps(result, indent=1) + "\n")
