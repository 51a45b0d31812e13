"""Rules of this project that can be read off its sources."""

import re
import subprocess
from itertools import chain
from pathlib import Path

import shmring
from source_labels import ACCESS, Statement, all_labels, documented_edges, statements
from support.public import members

TREE = Path(__file__).parents[2]
INCLUDE = TREE / "shmring" / "include" / "shmring"
HEADERS = sorted(INCLUDE.rglob("*.h"))
PROTOCOL = [path for path in HEADERS if path.name != "atomic.h"]
BINDINGS = sorted([*(TREE / "src").glob("*.p[xy][dix]"), *(TREE / "shmring").glob("*.py")])
DOCUMENT = TREE / "docs" / "protocol.md"

ATOMICS = r"\b(?:__atomic_\w+|__sync_\w+|_Atomic|std::atomic\w*|atomic_\w+\s*\(|volatile)\b"


def labelled(paths: list[Path]) -> list[Statement]:
    return list(chain.from_iterable(statements(path.name, path.read_text()) for path in paths))


def without_prose(source: str) -> str:
    """Python or Cython code without its comments and strings; line numbers stay."""
    token = re.compile(r'("""|\'\'\')(?s:.*?)\1|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|#[^\n]*')
    return token.sub(lambda match: "\n" * match[0].count("\n"), source)


def hits(pattern: str, source: str) -> list[str]:
    return [
        f"{number}: {line.strip()}"
        for number, line in enumerate(source.splitlines(), 1)
        if re.search(pattern, line)
    ]


def test_these_tests_see_the_sources() -> None:
    assert {"atomic.h", "layout.h"} < {path.name for path in HEADERS}
    assert {"_core.pyx", "slot.pxi", "c_shmring.pxd", "__init__.py"} < {path.name for path in BINDINGS}
    assert len(labelled(PROTOCOL)) > 20


def test_atomic_h_names_the_order_of_every_access() -> None:
    text = (INCLUDE / "internal" / "atomic.h").read_text().replace("\\\n", " ")
    defined = re.findall(r"#define (\w+\().*__atomic_", text)
    assert len(defined) == text.count(" __atomic_") > 5
    assert [name for name in defined if not ACCESS.match(name)] == []


def test_no_atomics_in_python_or_cython() -> None:
    atomic = rf"{ATOMICS}|{ACCESS.pattern}|\bfence\b"
    sources = {path: without_prose(path.read_text()) for path in BINDINGS}
    assert [f"{path.name}:{hit}" for path, code in sources.items() for hit in hits(atomic, code)] == []


def test_atomics_are_spelled_in_atomic_h_alone() -> None:
    assert [f"{path.name}:{hit}" for path in PROTOCOL for hit in hits(ATOMICS, path.read_text())] == []


def test_every_atomic_access_is_labelled() -> None:
    problems = [problem for statement in labelled(PROTOCOL) for problem in statement.problems()]
    assert not problems, "\n".join(problems)


def test_every_label_is_beside_an_atomic_access() -> None:
    written = {path.name: sorted(map(repr, all_labels(path.read_text()))) for path in PROTOCOL}
    attached = {
        path.name: sorted(repr(label) for s in labelled([path]) for label in s.labels) for path in PROTOCOL
    }
    assert attached == written


def test_labels_are_paired() -> None:
    """A word that is released is acquired, and fences name each other, each of them everywhere the same."""
    labels = {label for statement in labelled(PROTOCOL) for label in statement.labels}
    ends = {kind: {label.name for label in labels if label.kind == kind} for kind in ("release", "acquire")}
    assert ends["release"] == ends["acquire"]
    fences = [label for label in labels if label.kind == "fence"]
    meets = {fence.name: fence.meets for fence in fences}
    assert len(meets) == len(fences), f"one name, different partners: {sorted(map(str, fences))}"
    for name, others in meets.items():
        for other in others:
            assert other in meets, f"fence {name} names {other}, which is nowhere in the code"
            assert name in meets[other], f"fence {name} names {other}, not the reverse"


def test_the_protocol_document_lists_every_edge() -> None:
    in_code = {edge for statement in labelled(PROTOCOL) for label in statement.labels for edge in label.edges}
    in_text = documented_edges(DOCUMENT.read_text())
    undocumented, invented = sorted(in_code - in_text), sorted(in_text - in_code)
    assert not undocumented, f"{DOCUMENT.name} lacks these edges of the code: {undocumented}"
    assert not invented, f"{DOCUMENT.name} lists these edges, which the code lacks: {invented}"


def explained(name: str, thing: object) -> bool:
    """Whether it has a docstring, beyond the signature that Cython writes into its first line."""
    first, _, rest = (getattr(thing, "__doc__", None) or "").strip().partition("\n")
    return bool(rest if first.startswith(name + "(") or f".{name}(" in first else first)


def test_public_names_have_docstrings() -> None:
    things = {name: getattr(shmring, name) for name in [*shmring.__all__, "errors"]}
    things = {name: thing for name, thing in things.items() if not isinstance(thing, str)}
    offered = [*things.items()]
    offered += [
        (f"{name}.{member}", value)
        for name, thing in things.items()
        for member, value in members(thing).items()
    ]
    assert [name for name, value in offered if not explained(name.rpartition(".")[2], value)] == []


def sources() -> list[Path]:
    """Every file of the project that is not ignored; in an unpacked sdist, every file."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=False)
    names = listing.stdout.split("\0") if listing.returncode == 0 else map(str, TREE.rglob("*"))
    return [TREE / name for name in names if name and (TREE / name).is_file()]


def test_no_path_of_one_machine() -> None:
    place = re.compile(rb"(?<![\w.:/>-])/(?:work|root|home|Users|workspace)/\w")
    binary = {".png", ".mp4", ".so", ".pyc"}
    named = [path.name for path in sources() if path.suffix not in binary and place.search(path.read_bytes())]
    assert not named, named


# A file of this project, named from its root or as C includes it.
NAMED = re.compile(
    r"(?<![\w./-])(?:shmring|src|tests|benchmarks|docs|examples|findings)/[\w./-]*\.(?:py|p[xy][dix]|h|c|md|sh|svg)\b"
)


def test_files_that_are_named_exist() -> None:
    """In pages, comments and messages: a file that was moved takes its name along."""
    kinds = {".md", ".py", ".pyx", ".pxi", ".h", ".c", ".yml", ""}
    roots = [TREE, INCLUDE.parent]
    gone = {
        f"{path.relative_to(TREE)}: {name}"
        for path in sources()
        if path.suffix in kinds
        for name in NAMED.findall(path.read_text(errors="replace"))
        if "NAME" not in name and not any((root / name).exists() for root in [*roots, path.parent])
    }
    assert not gone, sorted(gone)
