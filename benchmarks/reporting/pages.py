"""The results in the documentation: a page for each run, the README's table, and that of the comparison."""

import re
import textwrap
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks import workloads
from benchmarks.harness.cells import OURS, PEER
from benchmarks.reporting import plots, results
from benchmarks.reporting.tables import markdown, number

Row = dict[str, Any]
README_ROWS = [
    ("64 B, one per call", "cost"),
    ("64 B, batches of 64", "cost"),
    ("1080p by copy, consumer touches", "video"),
    ("1080p by copy, consumer reads all", "video"),
    ("1080p in place, transport", "video"),
    ("64 B, spinning", "latency"),
    ("64 B, asleep", "latency"),
]
COMPARISON_COLUMNS = {
    "64 B, frames/s": ("cost", "64 B, one per call", "frames"),
    "1080p, all read, frames/s": ("video", "1080p by copy, consumer reads all", "frames"),
    "64 B asleep, one way, µs": ("latency", "64 B, asleep", "p50"),
}
README_PICTURE = "video.svg"
README_HEAD = ["", "shmring (min to max)", "best Python peer", "limit"]


def results_page(name: str, result: dict[str, Any]) -> str:
    """All results of a run."""
    facts = [f"- {key}: {value}" for key, value in result["machine"].items()]
    text = [f"# Results of {name}", "", "## Machine", "", *facts]
    text += ["", f"{result['rounds']} rounds, {result['seconds_per_run']} s a run.", "", "## Targets", ""]
    text.append(markdown(results.TARGETS_HEAD, results.target_lines(result)))
    compared = results.comparison_lines(result["rows"])
    if compared:
        head = results.COMPARISON_HEAD
        text += ["", f"## {results.COMPARISON.capitalize()}", "", markdown(head, compared)]
    text += ["", "## Pictures", ""]
    text += [f"![{picture.title}]({name}/{picture.file})\n" for picture in plots.pictures(result)]
    for part, part_rows in groupby(result["rows"], key=lambda row: row["part"]):
        text += ["", f"## {workloads.NAMES[part].capitalize()}"]
        for case, rows in groupby(part_rows, key=lambda row: row["case"]):
            text += ["", f"**{case}**", "", markdown(results.HEAD, results.lines_of(list(rows)))]
    absent = [f"- {peer['name']}: {peer['error']}" for peer in result["absent"]] or ["All are."]
    text += ["", "## Peers that are not there", "", *absent]
    versions = [f"- {peer}: {version}" for peer, version in result["versions"].items()]
    return "\n".join([*text, "", "## Versions of the peers", "", *versions, ""])


def readme_block(name: str, result: dict[str, Any]) -> str:
    """What the README has of a run: a few rows, where they come from, a picture."""
    lines = [line for case, part in README_ROWS if (line := readme_line(result["rows"], case, part))]
    facts = result["machine"]
    page = f"docs/results/{name}"
    met = sum(bool(target["met"]) for target in result["targets"])
    text = [
        markdown(README_HEAD, lines),
        "",
        f"{facts['processor']}, {facts['kernel']}, {facts['python']}, {facts['cores']} cores; medians of",
        f"{result['rounds']} interleaved rounds. The [whole run]({page}.md) has every peer with its",
        f"settings. {met} of {len(result['targets'])} [targets]({page}.md#targets) are met;",
        "[performance](docs/performance.md#targets-that-are-not-met) explains the others.",
    ]
    text += [
        f"\n![{each.title}]({page}/{each.file})"
        for each in plots.pictures(result)
        if each.file == README_PICTURE
    ]
    return "\n".join(text)


def readme_line(rows: list[Row], case: str, part: str) -> list[str]:
    """Ours, the best peer, the limit; nothing if ours did not run."""
    metric = "p50" if part == "latency" else "frames"
    wanted = (part, case, metric)
    measured = [row for row in rows if (row["part"], row["case"], row["metric"]) == wanted and row["values"]]
    ours = next((row for row in measured if row["kind"] == OURS), None)
    if ours is None:
        return []
    peers = [row for row in measured if row["kind"] == PEER]
    best = (min if metric == "p50" else max)(peers, key=lambda row: row["median"], default=None)
    limit = results.limit_of(measured, ours)
    return [
        f"{case}, one way" if metric == "p50" else case,
        f"{shown(ours)} ({number(ours['min'])} to {number(ours['max'])})",
        f"{shown(best)} ({best['subject']})" if best else "",
        f"{shown(limit)} ({limit['subject']})" if limit else "",
    ]


def comparison_block(name: str, result: dict[str, Any]) -> str:
    """What each peer did in the cases that most people ask about."""
    found: dict[str, dict[str, str]] = {}
    for row in result["rows"]:
        for column, wanted in COMPARISON_COLUMNS.items():
            if (row["part"], row["case"], row["metric"]) == wanted and compares(row):
                found.setdefault(row["subject"], {})[column] = compared(row)
    lines = [
        [subject, *(cells.get(column, "") for column in COMPARISON_COLUMNS)]
        for subject, cells in found.items()
    ]
    facts = result["machine"]
    source = (
        f"{facts['processor']}, {facts['cores']} cores, {facts['kernel']}, {facts['python']}; medians of "
        f"{result['rounds']} interleaved rounds (min to max), from [this run](results/{name}.md), which has "
        "all versions and settings."
    )
    return "\n".join([markdown(["", *COMPARISON_COLUMNS], lines), "", textwrap.fill(source, 110)])


def compares(row: Row) -> bool:
    """Whether a row is of a peer that ran, or ours as it comes."""
    return bool(row["values"]) and (row["kind"] == PEER or row["subject"] == "shmring")


def compared(row: Row) -> str:
    """Median and range; of a latency in microseconds."""
    scale = 1000 if row["unit"] == "ns" else 1
    median, least, most = (number(row[key] / scale) for key in ("median", "min", "max"))
    return f"{median} ({least} to {most})"


def shown(row: Row) -> str:
    return f"{number(row['median'])} {row['unit']}"


def put_between(path: Path, marker: str, text: str) -> None:
    """Replace what is between <!-- marker --> and <!-- /marker -->."""
    old = path.read_text()
    pattern = re.compile(rf"(<!-- {marker} -->\n).*?(<!-- /{marker} -->)", re.DOTALL)
    if not pattern.search(old):
        raise SystemExit(f"{path} has no <!-- {marker} --> ... <!-- /{marker} -->")
    path.write_text(pattern.sub(lambda found: f"{found[1]}{text}\n{found[2]}", old))
