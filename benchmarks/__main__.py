"""Runs the benchmarks: python -m benchmarks [PART ...] [--rounds N] [--json FILE] [--quick]."""

import argparse
import contextlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import workloads
from benchmarks.adapters import available
from benchmarks.against import OtherBuild, Refused
from benchmarks.harness import machine, suite
from benchmarks.reporting import results, targets


def parser() -> argparse.ArgumentParser:
    names = "; ".join(f"{name}: {what}" for name, what in workloads.NAMES.items())
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.add_argument("parts", nargs="*", metavar="PART", help=f"what to run, default everything. {names}")
    made.add_argument("--rounds", type=int, help="interleaved rounds (default 5, with --quick 1)")
    made.add_argument("--json", type=Path, help="also write the results to this file")
    made.add_argument("--plots", type=Path, help="also draw plots into this folder (needs matplotlib)")
    made.add_argument("--quick", action="store_true", help="short runs, one round: to see that all works")
    made.add_argument("--no-peers", action="store_true", help="shmring and the limits only")
    made.add_argument("--peers", metavar="NAME,NAME", help="only these peers")
    made.add_argument("--against", metavar="PYTHON", help="also measure the shmring of this Python, in turns")
    return made


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what the options ask for."""
    began = time.monotonic()
    facts = machine.describe()
    wanted = options.peers.split(",") if options.peers else None
    peers, absent = ([], []) if options.no_peers else available(wanted)
    effort = workloads.Effort(0.04 if options.quick else 0.2, options.quick, peers)
    rounds = options.rounds or (1 if options.quick else 5)
    parts = options.parts or list(workloads.NAMES)
    cells = workloads.cells(parts, effort)
    with contextlib.ExitStack() as stack:
        if options.against:
            other = stack.enter_context(OtherBuild(options.against, parts, effort))
            facts["other build"] = other.description
            cells = other.beside(cells)
        for key, value in facts.items():
            print(f"{key}: {value}")
        rows = suite.run(cells, rounds)
    return {
        "machine": facts | {"load after": machine.load(), "took": f"{time.monotonic() - began:.0f} s"},
        "rounds": rounds,
        "seconds_per_run": effort.seconds,
        "versions": {peer.name: machine.version_of(peer.package) for peer in peers},
        "absent": absent,
        "rows": rows,
        "targets": targets.judge(rows),
    }


def main() -> None:
    arguments = parser()
    options = arguments.parse_args()
    unknown = set(options.parts) - set(workloads.NAMES)
    if unknown:
        arguments.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(workloads.NAMES)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended by timeout(1): results so far are kept
    try:
        result = run(options)
    except Refused as reason:
        sys.exit(f"--against: {reason}")
    print(results.as_text(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.plots:
        from benchmarks.reporting import plots

        plots.draw(result, options.plots)


if __name__ == "__main__":
    main()
