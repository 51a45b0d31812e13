"""Results as text, and into the documents: python -m benchmarks.reporting.tables RESULTS.json."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from benchmarks import workloads
from benchmarks.harness.cells import LIMIT, OURS, fraction

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


def number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"


def limit_of(rows: Sequence[Row], row: Row) -> Row | None:
    """The case's first limit with the same metric."""
    for other in rows:
        same = all(other[key] == row[key] for key in ("part", "case", "metric"))
        if same and other["kind"] == LIMIT and other["values"]:
            return other
    return None


def lines_of(rows: Sequence[Row]) -> list[list[str]]:
    """Subject, metric, median, min, max, fraction of the limit, core to core, settings."""
    lines = []
    for row in rows:
        metric = f"{row['metric']}, {row['unit']}" if row["metric"] not in row["unit"] else row["unit"]
        if not row["values"]:
            lines.append(
                [
                    row["subject"],
                    metric,
                    "failed" if row["error"] else "not run",
                    "",
                    "",
                    "",
                    "",
                    row["error"][:90],
                ]
            )
            continue
        limit = limit_of(rows, row)
        part = f"{fraction(row, limit):.2f}" if limit and limit is not row else ""
        probes = [probe for pair in row["core_to_core_ns"] for probe in pair]
        near = f"{min(probes):.0f}-{max(probes):.0f}"
        lines.append(
            [
                row["subject"],
                metric,
                *(number(row[key]) for key in ("median", "min", "max")),
                part,
                near,
                row["settings"],
            ]
        )
    return lines


HEAD = ["", "", "median", "min", "max", "of limit", "core to core, ns", "settings"]


def as_text(result: dict[str, Any]) -> str:
    """For a terminal."""
    text = []
    for part, part_rows in groupby(result["rows"], key=lambda row: row["part"]):
        text.append(f"\n==== {workloads.NAMES[part]}")
        for case, rows in groupby(part_rows, key=lambda row: row["case"]):
            text.append(f"\n{case}")
            text += aligned([HEAD, *lines_of(list(rows))])
    text += [
        "",
        "==== peers that are not there",
        *(f"{peer['name']}: {peer['error']}" for peer in result["absent"]),
    ]
    text += [
        "",
        "==== targets",
        *aligned([["target", "bound", "measured", "min", "max", ""], *target_lines(result)]),
    ]
    return "\n".join(text)


def aligned(table: list[list[str]]) -> list[str]:
    """Columns; the numbers, from the third on to the seventh, to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for line in table:
        cells = zip(line, widths, range(len(line)), strict=True)
        lines.append(
            "  ".join(cell.rjust(width) if 1 < i < 7 else cell.ljust(width) for cell, width, i in cells)
        )
    return [f"  {line}".rstrip() for line in lines]


def target_lines(result: dict[str, Any]) -> list[list[str]]:
    lines = []
    for target in result["targets"]:
        bound = f"{'>=' if target['at_least'] else '<='} {number(target['bound'])} {target['unit']}"
        if "median" not in target:
            lines.append([target["target"], bound, "", "", "", f"not measured: {target['why'][:60]}"])
            continue
        word = "met" if target["met"] else "NOT met"
        other = target.get("or_else")
        if other and "median" in other:
            word += f" (or: {other['target']} {other['median']:.2f}, {number(other['bound'])} asked)"
        lines.append(
            [target["target"], bound, *(number(target[key]) for key in ("median", "min", "max")), word]
        )
    return lines


# ---- into the documents


def markdown(head: list[str], lines: list[list[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (head, rule, *lines)
    )


def results_page(name: str, result: dict[str, Any], pictures: dict[str, str]) -> str:
    """All results of a run, for its page."""
    facts = [f"- {key}: {value}" for key, value in result["machine"].items()]
    text = [f"# Results of {name}", "", "## Machine", "", *facts]
    text += ["", f"{result['rounds']} rounds, {result['seconds_per_run']} s a run.", "", "## Targets", ""]
    text.append(markdown(["target", "bound", "median", "min", "max", ""], target_lines(result)))
    text += ["", "## Pictures", ""]
    text += [f"![{title}]({name}/{file})\n" for file, title in pictures.items()]
    for part, part_rows in groupby(result["rows"], key=lambda row: row["part"]):
        text += ["", f"## {workloads.NAMES[part].capitalize()}"]
        for case, rows in groupby(part_rows, key=lambda row: row["case"]):
            text += ["", f"**{case}**", "", markdown(HEAD, lines_of(list(rows)))]
    text += ["", "## Peers that are not there", ""]
    absent = [f"- {peer['name']}: {peer['error']}" for peer in result["absent"]] or ["All are."]
    versions = [f"- {name}: {version}" for name, version in result["versions"].items()]
    return "\n".join([*text, *absent, "", "## Versions of the peers", "", *versions, ""])


def readme_table(name: str, result: dict[str, Any]) -> str:
    """The few rows that the README has: ours, the best peer, the limit."""
    lines = []
    for case, part in README_ROWS:
        metric = "p50" if part == "latency" else "frames"
        rows = [
            row
            for row in result["rows"]
            if (row["part"], row["case"], row["metric"]) == (part, case, metric) and row["values"]
        ]
        ours = next((row for row in rows if row["kind"] == OURS), None)
        if ours is None:
            continue
        peers = [row for row in rows if row["kind"] == "peer"]
        best = (min if metric == "p50" else max)(peers, key=lambda row: row["median"], default=None)
        limit = limit_of(rows, ours)
        unit = "one way" if metric == "p50" else ""
        lines.append([
            f"{case}{', ' + unit if unit else ''}",
            f"{shown(ours)} ({number(ours['min'])} to {number(ours['max'])})",
            f"{shown(best)} ({best['subject']})" if best else "",
            f"{shown(limit)} ({limit['subject']})" if limit else "",
        ])  # fmt: skip
    facts = result["machine"]
    where = ", ".join(facts[key] for key in ("processor", "kernel", "python"))
    return (
        markdown(["", "shmring (min to max)", "best Python peer", "limit"], lines)
        + f"\n\n{where}, {facts['cores']} cores; medians of {result['rounds']} interleaved rounds, "
        "one process on each core.\n"
        f"All of it, with every peer and its settings: [results](docs/results/{name}.md)."
    )


def shown(row: Row) -> str:
    return f"{number(row['median'])} {row['unit']}"
