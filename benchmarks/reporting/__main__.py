"""Writes what the documentation has of a run: python -m benchmarks.reporting RESULTS.json."""

import argparse
import json
from pathlib import Path

from benchmarks.harness.machine import TREE
from benchmarks.reporting import pages, plots


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reporting", description=__doc__)
    parser.add_argument("results", type=Path, help="named after the run: benchmarks/results/NAME.json")
    parser.add_argument("--readme", type=Path, default=TREE / "README.md")
    parser.add_argument("--comparison", type=Path, default=TREE / "docs" / "comparison.md")
    parser.add_argument("--pages", type=Path, default=TREE / "docs" / "results")
    options = parser.parse_args()
    name = options.results.stem
    result = json.loads(options.results.read_text())
    plots.draw(result, options.pages / name)
    (options.pages / f"{name}.md").write_text(pages.results_page(name, result))
    pages.put_between(options.readme, "benchmarks", pages.readme_block(name, result))
    pages.put_between(options.comparison, "benchmarks", pages.comparison_block(name, result))


if __name__ == "__main__":
    main()
