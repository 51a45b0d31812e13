"""Writes index.md of this folder from the headers of findings/*.sh.

python docs/findings/generate.py  after a change there: tests/text/test_findings.py fails where they differ
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

FOLDER = Path(__file__).parent
PAGE = FOLDER / "index.md"
SCRIPTS = sorted((FOLDER.parents[1] / "findings").glob("*.sh"))
PARTS = ["Expected", "Seen", "Versions", "Hurts"]
PART = re.compile(rf"^({'|'.join(PARTS)}): ", re.MULTILINE)

INTRODUCTION = """# Findings

What surprised us in the libraries, tools and formats around a ring, with valid input and through no fault of
ours. Each entry is a script in the folder `findings` of the sources. It installs the versions that it names
into a temporary folder, runs them without shmring, and fails if they no longer behave as described.

None of these is a complaint: the projects are good, which is why we use them. What you can do about it is
under *Hurts*.
"""


def header(script: Path) -> str:
    """The comment at the head of a script, without its marks."""
    lines = script.read_text().splitlines()[1:]
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[:end])


def parts(script: Path) -> dict[str, str]:
    """What a header says: its first line as ``title``, then the text of each of its parts."""
    title, *rest = PART.split(header(script))
    return {"title": title.strip(), **dict(zip(rest[::2], rest[1::2], strict=True))}


def flowing(text: str) -> str:
    """A paragraph in one line."""
    return " ".join(text.split())


def paragraph(text: str) -> str:
    """A paragraph in lines of the length that the other pages have."""
    return textwrap.fill(flowing(text), 110, break_long_words=False, break_on_hyphens=False)


def versions(text: str) -> tuple[str, str]:
    """The versions with the day, and the lines of output."""
    said, _, output = text.partition(":\n")
    return flowing(said), "\n".join(line.removeprefix("  ") for line in output.rstrip().splitlines())


def entry(script: Path) -> str:
    """The section of one script."""
    said = parts(script)
    software, output = versions(said["Versions"])
    return "\n\n".join(
        [
            f"## {flowing(said['title']).removesuffix('.')}",
            paragraph(f"*Expected:* {said['Expected']}"),
            paragraph(f"*Seen:* {said['Seen']}"),
            f"```text\n{output}\n```",
            paragraph(f"*Hurts:* {said['Hurts']}"),
            paragraph(f"{software}. `findings/{script.name}`"),
        ]
    )


def wanted() -> str:
    """The page as it should be."""
    return "\n\n".join([INTRODUCTION.strip(), *map(entry, SCRIPTS)]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(wanted())
