"""Pictures of the results (needs matplotlib)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.reporting.tables import number

Row = dict[str, Any]
COLOURS = {"ours": "#1b6ca8", "other": "#8fbfe0", "peer": "#b8b8b8", "limit": "#d9822b"}
BARS = {
    "small-frames": ("64 B frames, one per call, one to one", "cost", "64 B, one per call", "frames"),
    "latency": ("64 B, one way, spinning: p50", "latency", "64 B, spinning", "p50"),
    "latency-asleep": ("64 B, one way, asleep: p50", "latency", "64 B, asleep", "p50"),
    "video": (
        "1080p frames by copy, the consumer reads all",
        "video",
        "1080p by copy, consumer reads all",
        "frames",
    ),
    "fan-out": ("1 MiB to 4 consumers, by copy, touched", "fanout", "1 MiB by copy, 1 to 4, touch", "GB/s"),
}
LINES = {
    "scaling-slots": ("Cost of a call against the number of slots", " slots"),
    "scaling-consumers": ("Cost of a call against the number of consumers", " consumers"),
}


@dataclass(frozen=True)
class Picture:
    """What a file shows, and how it is filled."""

    file: str
    title: str
    fill: Callable[[Any], None]


def pictures(result: dict[str, Any]) -> list[Picture]:
    """Those that the results have rows for."""
    measured = [row for row in result["rows"] if row["values"]]
    found = []
    for name, (title, *wanted) in BARS.items():
        rows = [row for row in measured if [row["part"], row["case"], row["metric"]] == wanted]
        if rows:
            found.append(Picture(f"{name}.svg", title, partial(bars, rows=rows, title=title)))
    for name, (title, suffix) in LINES.items():
        ours = [row for row in measured if row["part"] == "scaling" and row["kind"] == "ours"]
        rows = [row for row in ours if row["case"].endswith(suffix)]
        if rows:
            fill = partial(lines, rows=rows, title=title, suffix=suffix)
            found.append(Picture(f"{name}.svg", title, fill))
    return found


def draw(result: dict[str, Any], folder: Path) -> None:
    """One SVG for each picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "shmring"  # the same results give the same file
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures(result):
        save(folder / picture.file, picture.fill)


def save(path: Path, fill: Callable[[Any], None]) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    fill(axes)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def bars(axes: Any, rows: list[Row], title: str) -> None:
    """Medians, whiskers from min to max; the best on top."""
    time = rows[0]["unit"] == "ns"
    rows = sorted(rows, key=lambda row: row["median"], reverse=time)
    middles = [row["median"] for row in rows]
    below = [row["median"] - row["min"] for row in rows]
    above = [row["max"] - row["median"] for row in rows]
    axes.barh(
        [row["subject"] for row in rows], middles, xerr=[below, above],
        color=[COLOURS[row["kind"]] for row in rows], error_kw={"ecolor": "#555", "capsize": 2},
    )  # fmt: skip
    for position, row in enumerate(rows):
        axes.annotate(
            number(row["median"]), (row["max"], position), (4, 0), textcoords="offset points",
            va="center", fontsize="x-small",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.tick_params(labelsize="small")
    axes.set_xlabel(f"{rows[0]['unit']}, {'less' if time else 'more'} is better; logarithmic")
    axes.set_title(title, fontsize="medium", loc="left")


def lines(axes: Any, rows: list[Row], title: str, suffix: str) -> None:
    for metric in dict.fromkeys(row["metric"] for row in rows):
        points = [
            (int(row["case"].removesuffix(suffix).replace(",", "")), row["median"])
            for row in rows
            if row["metric"] == metric
        ]
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=metric)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(suffix.strip())
    axes.set_ylabel("ns a call")
    axes.legend(frameon=False)
    axes.set_title(title, fontsize="medium", loc="left")
