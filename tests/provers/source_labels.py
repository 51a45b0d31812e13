"""Reads the memory-ordering labels of the headers, and the edges that docs/protocol.md lists.

A label is in a comment in, beside or directly above the statement that it explains:

[release head]        a release of that word; everyone who acquires it sees what was written before
[acquire head]        an acquire of that word
[fence mark | pin]    a fence, and the fences that it meets (Dekker, or the two sides of a seqlock)
[relaxed: why]        no ordering, and why none is needed
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

Edge = tuple[str, ...]  # a word that is released and acquired, or the names of two fences

LABEL = re.compile(r"\[(?:(release|acquire) (\w+)|(fence) (\w+) \| (\w+(?:, \w+)*)|(relaxed): [^\]]{5,})\]")
LABEL_LIKE = re.compile(r"\[(?:release|acquire|fence|relaxed)\b[^\]]*\]")
# Which labels an access may carry, by the order that its name ends with; a fence carries that of a fence.
KINDS = {
    "relaxed": {"relaxed"},
    "acquire": {"acquire"},
    "release": {"release"},
    "acq_rel": {"acquire", "release"},
    "seq_cst": {"fence"},
}
ACCESS = re.compile(
    rf"\bshmring_(?:(?:load|store|fetch|cas|exchange)\w*?|(?P<fence>fence))_(?P<order>{'|'.join(KINDS)})(?=\s*\()"
)
TOKEN = re.compile(r"""/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.DOTALL)


@dataclass(frozen=True)
class Label:
    """One ordering label: its kind; the word, or the fence's name; the fences that it meets."""

    kind: str
    name: str = ""
    meets: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()

    @property
    def edges(self) -> set[Edge]:
        """The edges that it is an end of."""
        if self.kind == "fence":
            return {in_order(self.name, other) for other in self.meets}
        return {(self.name,)} if self.name else set()


@dataclass(frozen=True)
class Access:
    """One atomic access: the kinds of label that explain it, the word that it names as its address."""

    order: str
    kinds: frozenset[str]
    address: str

    def explained_by(self, label: Label) -> bool:
        """Whether the label is one of its kind, and of a word that is there."""
        return label.kind in self.kinds and (
            label.kind not in ("release", "acquire") or bool(re.search(rf"\b{label.name}\b", self.address))
        )


@dataclass(frozen=True)
class Statement:
    """A statement that accesses memory atomically, and what its comments say."""

    where: str
    accesses: tuple[Access, ...]
    comment: str

    @property
    def labels(self) -> list[Label]:
        return read_labels(self.comment)

    def problems(self) -> Iterator[str]:
        """What is wrong with its labels, whatever other statements say."""
        for text in LABEL_LIKE.findall(self.comment):
            if not LABEL.fullmatch(text):
                yield f"{self.where}: malformed label {text}"
        free = self.labels
        for access in self.accesses:
            label = next((label for label in free if access.explained_by(label)), None)
            if label is None:
                yield f"{self.where}: {access.order} access of {access.address} without a label of its own"
            else:
                free.remove(label)


def in_order(*names: str) -> Edge:
    """The same edge for both ends of a pair of fences."""
    return tuple(sorted(names))


def read_labels(comment: str) -> list[Label]:
    """Every well-formed label of a comment."""
    found = []
    for kind, word, fence, name, meets, relaxed in LABEL.findall(comment):
        found.append(Label(kind or fence or relaxed, word or name, tuple(filter(None, meets.split(", ")))))
    return found


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


def first_argument(code: str, at: int) -> str:
    """What is between the next opening parenthesis and the comma or parenthesis that ends it."""
    start = code.index("(", at) + 1
    depth = 0
    for end in range(start, len(code)):
        if depth == 0 and code[end] in ",)":
            return " ".join(code[start:end].split())
        depth += (code[end] in "([") - (code[end] in ")]")
    return ""


def accesses(text: str) -> Iterator[Access]:
    """Every atomic access of a statement."""
    for match in ACCESS.finditer(text):
        fence = match["fence"] is not None
        kinds = frozenset({"fence"}) if fence else frozenset(KINDS[match["order"]])
        yield Access(match["order"], kinds, "memory" if fence else first_argument(text, match.end()))


def statements(name: str, source: str) -> Iterator[Statement]:
    """Every statement of a C file that accesses memory atomically."""
    code, comments = split(source)
    lines = code.split("\n")
    for start, end in spans(code):
        text = code[start:end]
        found = tuple(accesses(text))
        if not found:
            continue
        first = code.count("\n", 0, start + len(text) - len(text.lstrip()))
        last = code.count("\n", 0, end - 1)
        above = first
        while above - 1 in comments and not lines[above - 1].strip():
            above -= 1
        comment = "".join(comments.get(line, "") for line in range(above, last + 1))
        yield Statement(f"{name}:{first + 1}", found, comment)


def all_labels(source: str) -> list[Label]:
    """Every label in the comments of a C file, beside an atomic access or not."""
    return [label for comment in split(source)[1].values() for label in read_labels(comment)]


def documented_edges(markdown: str) -> set[Edge]:
    """The edges that tables list: by one word under `word`, by two fences under `fence` and `meets`."""
    edges: set[Edge] = set()
    columns = 0
    for line in markdown.splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")]
        if not line.lstrip().startswith("|"):
            columns = 0
        elif cells[0] == "word":
            columns = 1
        elif cells[:2] == ["fence", "meets"]:
            columns = 2
        elif columns and not cells[0].startswith("-"):
            edges.add(in_order(*cells[:columns]))
    return edges
