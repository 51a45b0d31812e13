"""Writes the page of a run, and the README's table: python -m benchmarks.reporting RESULTS.json."""

import argparse
import json
import re
from pathlib import Path

from benchmarks.harness.machine import TREE
from benchmarks.reporting import plots, tables


def put_between(path: Path, marker: str, text: str) -> None:
    """Replace what is between <!-- marker --> and <!-- /marker -->."""
    old = path.read_text()
    pattern = re.compile(rf"(<!-- {marker} -->\n).*?(<!-- /{marker} -->)", re.DOTALL)
    if not pattern.search(old):
        raise SystemExit(f"{path} has no <!-- {marker} --> ... <!-- /{marker} -->")
    path.write_text(pattern.sub(lambda found: f"{found[1]}{text}\n{found[2]}", old))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reporting", description=__doc__)
    parser.add_argument("results", type=Path, help="named after the run: benchmarks/results/NAME.json")
    parser.add_argument("--readme", type=Path, default=TREE / "README.md")
    parser.add_argument("--pages", type=Path, default=TREE / "docs" / "results")
    options = parser.parse_args()
    name = options.results.stem
    result = json.loads(options.results.read_text())
    pictures = plots.draw(result, options.pages / name)
    (options.pages / f"{name}.md").write_text(tables.results_page(name, result, pictures))
    put_between(options.readme, "benchmarks", tables.readme_table(name, result))


if __name__ == "__main__":
    main()
