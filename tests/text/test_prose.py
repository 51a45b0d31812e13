"""How pages and sources are written: no habit that readers stumble over, no line that is too wide."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
PAGES = sorted([*TREE.glob("*.md"), *(TREE / "docs").rglob("*.md")])
SOURCES = sorted(
    path
    for folder in [".ci", "benchmarks", "examples", "findings", "shmring", "src", "tests"]
    for path in (TREE / folder).rglob("*")
    if path.suffix in {".py", ".pyi", ".pyx", ".pxi", ".pxd", ".h", ".c", ".cpp", ".pml", ".sh"}
    and path != Path(__file__)
)
WIDEST = 110

# What is not prose: code, what is quoted as code, and what a program generates.
CODE = re.compile(
    r"^( *)(`{3,})[^\n]*\n.*?^\1\2$|`[^`\n]+`|<!-- (?:from here|benchmarks).*?<!-- (?:to here|/benchmarks)",
    re.MULTILINE | re.DOTALL,
)

# A habit, and what to write instead.
HABITS = {
    r"\banew\b": "again; re-",
    r"\bfor ever\b": "forever",
    r"\bwho(?:m|so)?ever\b": "the process that, or the person who",
    r"(?:^|[.:;(] |, )who (?:may|only|comes|is|wants|sleeps|waits|takes|reads|writes)\b": "a process that",
    r"\bstands (?:in|for|there|above|below|before|still|beside)\b|\bstand in\b": "is",
    r"\b(?:go|goes|going|gone|went) on\b(?! the)": "continue",
    r"\bso often\b": "often",
    r"(?-i:\bMEASURED\b|\bTBD\b|\bFIXME\b)": "what belongs there",
}


def without_code(text: str) -> str:
    """The same lines with code taken out of them."""
    return CODE.sub(lambda match: "\n" * match[0].count("\n"), text)


def habits(text: str) -> Iterator[str]:
    """The habits in a text, each with its line and what to write."""
    bare = without_code(text)
    for habit, better in HABITS.items():
        for match in re.finditer(habit, bare, re.IGNORECASE | re.MULTILINE):
            number = bare.count("\n", 0, match.end()) + 1
            yield f"{number}: {match[0].strip()!r} (better: {better})"


def too_wide(text: str) -> Iterator[str]:
    """Lines of prose that are too wide: not those of tables, links on their own, or code."""
    blocks = re.compile(r"^( *)(`{3,})[^\n]*\n.*?^\1\2$", re.MULTILINE | re.DOTALL)
    bare = blocks.sub(lambda match: "\n" * match[0].count("\n"), text)
    bare = re.sub(
        r"<!-- (?:from here|benchmarks).*?<!-- (?:to here|/benchmarks)",
        lambda match: "\n" * match[0].count("\n"),
        bare,
        flags=re.DOTALL,
    )
    for number, line in enumerate(bare.splitlines(), 1):
        if len(line) > WIDEST and not line.lstrip().startswith(("|", "!", "#", "<")):
            yield f"{number}: {len(line)} columns"


def test_nothing_is_written_in_one_of_the_habits() -> None:
    """Pages, docstrings, comments and messages."""
    texts = [*PAGES, *SOURCES, TREE / "setup.py", TREE / "noxfile.py"]
    found = [f"{path.relative_to(TREE)}:{said}" for path in texts for said in habits(path.read_text())]
    assert not found, "\n".join(found)


def test_numbers_agree_with_their_nouns() -> None:
    """A message writes `{count(n, 'frame')}`, which is "1 frame" where there is one; a ring has two slots."""
    nouns = "frames|consumers|places|members|blocks|rows|metas|swaps|fields|values|buffers|spare ones"
    counted = re.compile(rf"\{{[^{{}}]*\}} (?:more |new |published )?(?:{nouns})\b(?!/)|\(s\)")
    found = [
        f"{path.relative_to(TREE)}:{number}: {match[0]}"
        for path in SOURCES
        if path.suffix in {".py", ".pxi"} and path.relative_to(TREE).parts[0] in ("shmring", "src")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for match in counted.finditer(line)
    ]
    assert not found, "\n".join(found)


def test_lines_of_prose_fit() -> None:
    found = [f"{page.relative_to(TREE)}:{said}" for page in PAGES for said in too_wide(page.read_text())]
    assert not found, "\n".join(found)


def test_lines_of_c_fit() -> None:
    """clang-format leaves comments as they are."""
    folders = ("shmring/include", "src", "tests/provers", "benchmarks", "examples")
    sources = [
        path for folder in folders for kind in ("h", "c") for path in (TREE / folder).rglob(f"*.{kind}")
    ]
    found = [
        f"{path.relative_to(TREE)}:{number}: {len(line)} columns"
        for path in sources
        if f"{TREE / 'src'}/_core" not in str(path)  # made by Cython for coverage
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > WIDEST
    ]
    assert len(sources) > 50
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("Create the ring anew.", 1),
        ("It waits for ever, so often.", 2),
        ("who comes late gets a slot", 1),
        ("`for ever` is a name; a person who reads this", 0),
        ("the clock goes on the wall", 0),
    ],
)
def test_the_habits_are_seen(line: str, seen: int) -> None:
    assert len(list(habits(line))) == seen
