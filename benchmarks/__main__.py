"""Runs the benchmarks: python -m benchmarks [PART ...] [--rounds N] [--json FILE] [--quick]."""

import argparse
import json
import signal
import time
from pathlib import Path

from benchmarks import workloads
from benchmarks.adapters import available
from benchmarks.harness import machine, suite
from benchmarks.reporting import tables, targets


def main() -> None:
    names = "; ".join(f"{name}: {what}" for name, what in workloads.NAMES.items())
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to run, default everything. {names}")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default 5, with --quick 1)")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--plots", type=Path, help="also draw plots into this folder (needs matplotlib)")
    parser.add_argument("--quick", action="store_true", help="short runs, one round: to see that all works")
    parser.add_argument("--no-peers", action="store_true", help="shmring and the limits only")
    parser.add_argument("--peers", metavar="NAME,NAME", help="only these peers")
    options = parser.parse_args()
    unknown = set(options.parts) - set(workloads.NAMES)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(workloads.NAMES)}")
    rounds = options.rounds or (1 if options.quick else 5)

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended by timeout(1): results so far are kept
    began = time.monotonic()
    facts = machine.describe()
    for key, value in facts.items():
        print(f"{key}: {value}")
    wanted = options.peers.split(",") if options.peers else None
    peers, absent = ([], []) if options.no_peers else available(wanted)
    effort = workloads.Effort(0.04 if options.quick else 0.2, options.quick, peers)
    chosen = options.parts or list(workloads.NAMES)
    rows = suite.run(workloads.cells(chosen, effort), rounds)
    result = {
        "machine": facts | {"load after": machine.load(), "took": f"{time.monotonic() - began:.0f} s"},
        "rounds": rounds,
        "seconds_per_run": effort.seconds,
        "versions": {peer.name: machine.version_of(peer.package) for peer in peers},
        "absent": absent,
        "rows": rows,
    }
    result["targets"] = targets.judge(rows)
    print(tables.as_text(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.plots:
        from benchmarks.reporting import plots

        plots.draw(result, options.plots)


if __name__ == "__main__":
    main()
