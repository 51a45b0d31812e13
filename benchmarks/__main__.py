"""Runs the throughput benchmark and prints its table: ``python -m benchmarks [--rounds N] [--json FILE]``."""

import argparse
import json
from pathlib import Path

from benchmarks import machine, throughput


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    facts = machine.describe()
    for key, value in facts.items():
        print(f"{key}: {value}")
    result = throughput.run(options.rounds)
    print(throughput.table(result))
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "rows": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
