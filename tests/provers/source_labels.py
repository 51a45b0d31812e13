"""Reads the memory-ordering labels of the headers, and the edges that docs/protocol.md lists.

A label stands in a comment in, beside or directly above the statement that it explains:

[R1 -> A1, A4]    a release; the acquires that it makes its writes visible to
[A1 <- R1]        an acquire; the releases whose writes it makes visible here
[F1 <-> F2]       a fence; the fences that it meets (Dekker, or the two sides of a seqlock)
[relaxed: why]    no ordering, and why none is needed
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

Edge = tuple[str, str]

NAME = r"[RAF]\d+[a-z]?"
LABEL = re.compile(rf"\[({NAME}) (<->|->|<-) ({NAME}(?:, ?{NAME})*)\]")
RELAXED = re.compile(r"\[relaxed: [^\]]{5,}\]")
LABEL_LIKE = re.compile(r"\[(?:[RAF]\d|relaxed)[^\]]*\]")
ARROWS = {"R": "->", "A": "<-", "F": "<->"}
# Which labels an access may carry, by the order that its name ends with; a fence may always carry F.
KINDS = {"relaxed": "-", "acquire": "A", "release": "R", "acq_rel": "AR", "seq_cst": "F"}
ACCESS = re.compile(
    rf"\bshmring_(?:(?:load|store|fetch|cas|exchange)\w*?|(?P<fence>fence))_(?P<order>{'|'.join(KINDS)})(?=\s*\()"
)
TOKEN = re.compile(r"""/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.DOTALL)


@dataclass(frozen=True)
class Label:
    """One ordering label; the name "-" stands for [relaxed: ...]."""

    name: str
    arrow: str = ""
    partners: tuple[str, ...] = ()

    @property
    def edges(self) -> set[Edge]:
        """The edges that it claims: (release, acquire), or two fences in order."""
        turn = self.name[0] == "A"
        pairs = [(partner, self.name) if turn else (self.name, partner) for partner in self.partners]
        return {in_order(pair) for pair in pairs}


@dataclass(frozen=True)
class Statement:
    """A statement that accesses memory atomically, and what its comments say."""

    where: str
    accesses: tuple[tuple[str, str], ...]  # each with its order and the labels that it may carry
    comment: str

    @property
    def labels(self) -> list[Label]:
        return read_labels(self.comment)

    def problems(self) -> Iterator[str]:
        """What is wrong with its labels, whatever other statements say."""
        for text in LABEL_LIKE.findall(self.comment):
            if not (LABEL.fullmatch(text) or RELAXED.fullmatch(text)):
                yield f"{self.where}: malformed label {text}"
        for label in self.labels:
            if label.arrow != ARROWS.get(label.name[0], ""):
                yield f"{self.where}: {label.name} must point {ARROWS[label.name[0]]}"
        free = [label.name[0] for label in self.labels]
        for order, kinds in self.accesses:
            letter = next((letter for letter in free if letter in kinds), None)
            if letter is None:
                yield f"{self.where}: {order} access without a label of its kind"
            else:
                free.remove(letter)


def in_order(pair: Edge) -> Edge:
    """The same edge for both ends of a pair of fences."""
    first, second = pair
    return (second, first) if first[0] == "F" and (len(second), second) < (len(first), first) else pair


def read_labels(comment: str) -> list[Label]:
    """Every well-formed label of a comment."""
    found = [Label(m[1], m[2], tuple(re.findall(NAME, m[3]))) for m in LABEL.finditer(comment)]
    return found + [Label("-") for _ in RELAXED.finditer(comment)]


def split(source: str) -> tuple[str, dict[int, str]]:
    """The code with comments and strings blanked out; the comments by the line that they start on.

    A line that a comment only continues on has an empty one.
    """
    comments: dict[int, str] = {}

    def blank(match: re.Match[str]) -> str:
        text = match[0]
        if text.startswith(("/*", "//")):
            first = source.count("\n", 0, match.start())
            for line in range(first, first + text.count("\n") + 1):
                comments.setdefault(line, "")
            comments[first] += " ".join(re.sub(r"\n\s*\*?", " ", text).split()) + " "
        return re.sub(r"[^\n]", " ", text)

    return TOKEN.sub(blank, source), comments


def spans(code: str) -> Iterator[tuple[int, int]]:
    """Start and end of every statement, and of every line of the preprocessor, in blanked code."""
    start = depth = 0
    directive = False
    for at, char in enumerate(code):
        if char in "([":
            depth += 1
        elif char in ")]":
            depth -= 1
        elif char == "#" and not code[start:at].strip():
            directive = True
        ends = char == "\n" and code[at - 1] != "\\" if directive else char in ";{}" and depth == 0
        if ends:
            yield start, at + 1
            start, depth, directive = at + 1, 0, False


def statements(name: str, source: str) -> Iterator[Statement]:
    """Every statement of a C file that accesses memory atomically."""
    code, comments = split(source)
    lines = code.split("\n")
    for start, end in spans(code):
        text = code[start:end]
        found = ACCESS.finditer(text)
        accesses = tuple((m["order"], KINDS[m["order"]] + ("F" if m["fence"] else "")) for m in found)
        if not accesses:
            continue
        first = code.count("\n", 0, start + len(text) - len(text.lstrip()))
        last = code.count("\n", 0, end - 1)
        above = first
        while above - 1 in comments and not lines[above - 1].strip():
            above -= 1
        comment = "".join(comments.get(line, "") for line in range(above, last + 1))
        yield Statement(f"{name}:{first + 1}", accesses, comment)


def all_labels(source: str) -> list[Label]:
    """Every label in the comments of a C file, beside an atomic access or not."""
    return [label for comment in split(source)[1].values() for label in read_labels(comment)]


def documented_edges(markdown: str) -> set[Edge]:
    """The edges of the tables whose first two columns hold labels: | R1 | A1, A4 | ... |."""
    edges: set[Edge] = set()
    for line in markdown.splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")]
        if line.lstrip().startswith("|") and len(cells) >= 2:
            ends = [re.fullmatch(rf"{NAME}(?:, ?{NAME})*", cell) for cell in cells[:2]]
            if all(ends):
                edges |= {in_order((a, b)) for a in cells[0].split(", ") for b in cells[1].split(", ")}
    return edges
