"""Tables as text: aligned for a terminal, or in Markdown."""

from collections.abc import Container
from typing import Any


def number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(found: dict[str, Any]) -> list[str]:
    return [number(found[key]) for key in ("median", "min", "max")]


def aligned(table: list[list[str]], numbers: Container[int] = range(2, 7)) -> list[str]:
    """Columns; those of numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for line in table:
        cells = zip(line, widths, range(len(line)), strict=True)
        lines.append("  ".join(f"{cell:{'>' if i in numbers else '<'}{width}}" for cell, width, i in cells))
    return [f"  {line}".rstrip() for line in lines]


def markdown(head: list[str], lines: list[list[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (head, rule, *lines)
    )
