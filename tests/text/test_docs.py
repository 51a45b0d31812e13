"""README and docs: their code runs and prints what they say, their links lead somewhere."""

from __future__ import annotations

import ast
import contextlib
import doctest
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import shmring
import shmring.queue
from shmring import attrs
from support import convention
from support.blocks import fresh_name
from support.events import EVENTS
from support.public import members
from support.waiting import PATIENCE

TREE = Path(__file__).parents[2]
DOCS = TREE / "docs"
PAGES = sorted(path.relative_to(TREE).as_posix() for path in [*TREE.glob("*.md"), *DOCS.rglob("*.md")])
RUNNABLE = [
    "README.md",
    "docs/tutorial.md",
    "docs/pipeline.md",
    *(page for page in PAGES if page.startswith("docs/how-to/")),
]

FENCE = re.compile(r"^(`{3,})([^\n`]*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ .*$", re.MULTILINE)
# Libraries that only some environments have: elsewhere their pages cannot run.
FRAMEWORK = re.compile(
    r"^\s*(?:>>> |\.\.\. )?(?:import|from) (?:shmring\.)?"
    r"(av|bluesky|cv2|epics|gstreamer|jax|pymmcore|sounddevice|starlette|torch)\b",
    re.MULTILINE,
)
LIBRARIES = {
    "bluesky": "ophyd_async",
    "epics": "p4p",
    "gstreamer": "gi",
    "pymmcore": "mm_test_adapters",
}  # others: their own name
PRINTS = re.compile(r"<!-- prints: (\S+) -->\n\Z")
RING_NAME = re.compile(r"Ring\.(?:create|attach)\(\"([\w-]+)\"")


@dataclass
class Group:
    """The programs of one section: they run at the same time."""

    heading: str
    files: dict[str, str] = field(default_factory=dict)
    prints: dict[str, str] = field(default_factory=dict)


def blocks(page: str) -> Iterator[tuple[int, str, str]]:
    """Where each code block starts, its language, its text."""
    for match in FENCE.finditer((TREE / page).read_text()):
        yield match.start(), match[2].strip(), match[3]


def prose(page: str) -> str:
    return FENCE.sub("", (TREE / page).read_text())


def groups(page: str) -> list[Group]:
    """The programs on a page, by section. A program is a block whose first line names its file."""
    text = (TREE / page).read_text()
    inside = [range(match.start(), match.end()) for match in FENCE.finditer(text)]
    heads = [m for m in HEADING.finditer(text) if not any(m.start() in span for span in inside)]
    found: list[Group] = []
    for start, language, code in blocks(page):
        heading = next((m[0] for m in reversed(heads) if m.start() < start), "")
        if not found or found[-1].heading != heading:
            found.append(Group(heading))
        named = re.match(r"(?:# |/\* )(\w+\.(?:py|c))\b", code)
        if language in ("python", "c"):
            assert named, f"{page}: a {language} block names no file, so no test can run it:\n{code}"
            found[-1].files[named[1]] = code
        elif printed := PRINTS.search(text[:start]):
            found[-1].prints[printed[1]] = code
    return [group for group in found if group.files or group.prints]


def marks(page: str, group: Group) -> list[pytest.MarkDecorator]:
    """By default the first pages run, and those that need a library: its session has no others."""
    runs = page in ("README.md", "docs/tutorial.md") or FRAMEWORK.search("\n".join(group.files.values()))
    return [] if runs else [pytest.mark.stress]


PROGRAMS = [
    pytest.param(group, id=f"{page}: {group.heading.lstrip('# ')}", marks=marks(page, group))
    for page in RUNNABLE
    for group in groups(page)
    if all(name.endswith(".py") for name in group.files)
]


# ---- code


def with_fresh_names(codes: list[str]) -> list[str]:
    """The same programs on rings whose names nobody else uses."""
    for name in {name for code in codes for name in RING_NAME.findall(code)}:
        fresh = fresh_name()
        codes = [code.replace(f'"{name}"', f'"{fresh}"') for code in codes]
    return codes


@pytest.fixture(scope="module", autouse=True)
def libraries(request) -> None:
    if importlib.util.find_spec("ome_writers") is not None:
        request.getfixturevalue("zarr_thread")  # a page records OME files


def skip_without_frameworks(code: str) -> None:
    hidden = ["ome_writers", "tifffile", "mcap_protobuf"] if ".ome.zarr" in code else []
    for name in FRAMEWORK.findall(code) + hidden:
        library = LIBRARIES.get(name, name)
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"no {library}")


@pytest.mark.parametrize("group", PROGRAMS)
@pytest.mark.slow
def test_programs(group: Group, tmp_path: Path) -> None:
    """They run, at the same time and against each other, end by themselves, and print what the page says."""
    skip_without_frameworks("\n".join(group.files.values()))
    assert set(group.prints) <= set(group.files), "the page shows the output of a program that is not there"
    assert group.prints, "the page does not show what comes out"
    running = {}
    try:
        for file, code in zip(group.files, with_fresh_names([*group.files.values()]), strict=True):
            (tmp_path / file).write_text(code)
        for file in group.files:
            running[file] = subprocess.Popen(
                [sys.executable, file],
                cwd=tmp_path,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "ALSA_CONFIG_PATH": str(TREE / "tests" / "video" / "asound.conf")},
            )
        for file, process in running.items():
            output, errors = process.communicate(timeout=3 * PATIENCE)
            assert (process.returncode, errors) == (0, ""), f"{file}: {output}{errors}"
            if file in group.prints:
                assert output == group.prints[file], file
    finally:
        for process in running.values():
            process.kill()
            process.communicate()


@pytest.mark.parametrize("page", [page for page in RUNNABLE if "```pycon\n" in (TREE / page).read_text()])
def test_sessions(page: str) -> None:
    """What a page shows of an interactive session is what happens; one session for a page."""
    session = "\n".join(code for _, language, code in blocks(page) if language == "pycon")
    skip_without_frameworks(session)
    [session] = with_fresh_names([session])
    shows_mistakes = page == "docs/how-to/attributes.md"
    with contextlib.nullcontext() if shows_mistakes else convention.kept():
        run_doctest(session, page)


def test_attrs_in_programs() -> None:
    """Those of pages and examples, which others copy, are as the convention has them."""
    codes = {path.name: path.read_text() for path in (TREE / "examples").rglob("*.py")}
    for page in RUNNABLE:
        codes |= {f"{page}: {number}": code for number, (_, language, code) in enumerate(blocks(page))
                  if language in ("py", "python")}  # fmt: skip
    found = 0
    for name, code in codes.items():
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.keyword) and node.arg == "attrs" and isinstance(node.value, ast.Dict):
                said = eval(compile(ast.Expression(node.value), name, "eval"), {}, defaultdict(lambda: 1.0))
                attrs.check(said)
                found += 1
    assert found >= 2


def run_doctest(text: str, name: str) -> None:
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    test = doctest.DocTestParser().get_doctest(text, {"__name__": "__main__"}, name, name, 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=options)
    failed, tried = runner.run(test, out=said.append)
    assert tried
    assert not failed, "".join(said)


def docstrings() -> Iterator[tuple[str, str]]:
    for name in shmring.__all__:
        thing = getattr(shmring, name)
        yield name, thing.__doc__
        for member, value in members(thing).items():
            yield f"{name}.{member}", getattr(value, "__doc__", None) or ""


EXAMPLES = {name: text for name, text in docstrings() if ">>> " in text}


def test_examples_in_docstrings() -> None:
    for name, text in EXAMPLES.items():
        run_doctest(text, name)


def test_there_are_examples_in_docstrings() -> None:
    assert {"Ring.create", "Producer.put", "Consumer.get"} <= set(EXAMPLES)


@pytest.mark.slow
def test_consumer_in_c(make, tmp_path: Path) -> None:
    """The C program of docs/how-to/c.md reads what Python publishes, and ends with it."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    [(name, code)] = [item for group in groups("docs/how-to/c.md") for item in group.files.items()]
    source, program = tmp_path / name, tmp_path / "program"
    source.write_text(code)
    flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-I", shmring.get_include()]
    subprocess.run(["cc", *flags, str(source), "-o", str(program)], check=True)
    ring = make(shape=(1024,), dtype="i4", slots=4)
    with ring.producer() as out:
        process = subprocess.Popen([program, ring.name], stdout=subprocess.PIPE, text=True)
        try:
            out.wait_for_consumers(1, timeout=PATIENCE)
            for number in range(100):
                out.put(np.full(1024, number, "i4"), timeout=PATIENCE)
            out.close()
            assert process.communicate(timeout=PATIENCE)[0] == "100 frames, sum 4950, 0 lost\n"
            assert process.returncode == 0
        finally:
            process.kill()
            process.communicate()


# ---- what the pages must contain


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def tables(page: str) -> list[list[list[str]]]:
    """The tables of a page: rows of cells, the head first, without the line under it."""
    found: list[list[list[str]]] = []
    before = ""
    for line in prose(page).splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                found.append([])
            if not re.fullmatch(r"[|\s:-]+", line):
                found[-1].append(cells(line))
        before = line
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_table_begins_with_its_head(page: str) -> None:
    lines = ["", *prose(page).splitlines(), ""]
    for before, line, after in zip(lines, lines[1:], lines[2:], strict=False):
        if line.startswith("|") and not before.startswith("|"):
            assert re.fullmatch(r"[|\s:-]+", after), f"this row is in no table: {line}"


def test_the_readme_has_the_two_commands() -> None:
    text = (TREE / "README.md").read_text()
    commands = dict(re.findall(r"^<!-- ci: (\w+) -->\n```bash\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL))
    assert commands == {
        "run": 'pip install -e ".[cli]" && shmring demo',
        "test": 'pip install -e ".[test]" && pytest',
    }


def test_failure_modes_has_the_table_what_happens_when() -> None:
    [table] = [table for table in tables("docs/failure-modes.md") if table[0] == ["event", "outcome"]]
    assert [row[0] for row in table[1:]] == list(EVENTS)


def test_failure_modes_explains_every_error() -> None:
    [table] = [table for table in tables("docs/failure-modes.md") if table[0][0] == "error"]
    said = {row[0].strip("`"): row[1].strip("`") for row in table[1:]}
    expected = {}
    for name in shmring.errors.__all__:
        kind = getattr(shmring, name)
        standard = next(base for base in kind.__mro__ if not issubclass(base, shmring.ShmringError))
        expected[name] = "" if kind is shmring.ShmringError else standard.__name__
    assert said == expected


def test_the_reference_has_every_public_name() -> None:
    text = (DOCS / "reference.md").read_text()
    documented = re.findall(r"^\.\. auto(?:class|exception|function):: (\w+)", text, re.MULTILINE)
    public = [name for module in public_modules() for name in exported(module)]
    assert sorted(documented) == sorted({*shmring.__all__, *public})


def public_modules() -> list[Path]:
    """Those that users import: shmring itself, and what it has without an underscore."""
    package = TREE / "shmring"
    found = [*package.glob("*.py"), *package.glob("*/__init__.py")]
    inside = [path.relative_to(package).parts[0] for path in found]
    return [path for path, name in zip(found, inside, strict=True) if name == "__init__.py" or name[0] != "_"]


def exported(module: Path) -> list[str]:
    """The names in a module's ``__all__``, read from its source: it may need what is not installed."""
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return []


def test_the_glossary_has_every_word() -> None:
    [text] = [code for _, language, code in blocks("docs/glossary.md") if language == "{glossary}"]
    words = {word for line in re.findall(r"^\S.*$", text, re.MULTILINE) for word in line.split(", ")}
    wanted = (
        "ring, slot, position, entry, frame, seq, claim, publish, abort, head, claimed, cursor, gate, pin, "
        "home, swap, lossless, lossy, lapped, lost, latest, skipped, join, leave, reap, takeover, epoch, "
        "wait strategy, generation"
    )
    assert set(wanted.split(", ")) <= words


# ---- links


def anchor(heading: str) -> str:
    """As GitHub and MyST make it of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lstrip("# ").strip().lower()).replace(" ", "-")


@functools.cache
def anchors(path: Path) -> set[str]:
    """Those of a page, or of the page that it consists of."""
    text = path.read_text()
    if included := re.match(r"```{include} (\S+)", text):
        return anchors(path.parent / included[1])
    return {anchor(heading) for heading in HEADING.findall(FENCE.sub("", text))}


def leads_somewhere(page: str, target: str) -> bool:
    """Whether a relative link of a page leads to what is there, a heading included."""
    name, _, fragment = target.partition("#")
    path = Path(os.path.normpath((TREE / page).parent / name)) if name else TREE / page
    return path.exists() and (not fragment or fragment in anchors(path))


def test_links() -> None:
    links = {(page, link) for page in PAGES for link in re.findall(r"\]\(([^)\s]+)\)", prose(page))}
    relative = sorted((page, link) for page, link in links if not link.startswith("https://"))
    assert [link for link in relative if not leads_somewhere(*link)] == []


def test_pictures_are_there_described_and_used() -> None:
    """Those of pages; each drawing, screenshot and film is on some page."""
    shown: set[Path] = set()
    for page in PAGES:
        text = (TREE / page).read_text()
        pictures = [
            *re.findall(r"!\[([^\]]*)\]\((\S+?)\)", text),
            *((alt, name) for name, alt in re.findall(r"```{image} (\S+)\n:alt: (.*)\n", text)),
            *((alt, name) for name, alt in re.findall(r"<img src=\"(\S+)\" alt=\"([^\"]*)\"", text)),
        ]
        assert all(len(alt) > 20 for alt, _ in pictures), page
        names = [name for _, name in pictures] + re.findall(r"srcset=\"(\S+)\"", text)
        shown |= {Path(os.path.normpath((TREE / page).parent / name)) for name in names}
    assert all(path.exists() for path in shown)
    files = [*(DOCS / "drawings").iterdir(), *(DOCS / "screens").iterdir()]
    unused = {path for path in files if path.suffix in (".svg", ".png", ".webp")} - shown
    assert not unused


def test_films_move_and_load_quickly() -> None:
    for film in (DOCS / "screens").glob("*.webp"):
        assert b"ANIM" in film.read_bytes()[:64], film
        assert film.stat().st_size < 1_000_000, film


def test_files_that_pages_name_are_there() -> None:
    named = re.compile(r"`((?:docs|examples|tests|src|shmring|benchmarks)/[\w./-]+\.\w+)`")
    missing = {name for page in PAGES for name in named.findall(prose(page)) if not (TREE / name).exists()}
    assert not missing, missing


def test_every_page_is_reachable() -> None:
    """The table of contents of each folder has every page in it."""
    for index in [DOCS / "index.md", DOCS / "how-to" / "index.md"]:
        listed = {
            line
            for _, language, code in blocks(index.relative_to(TREE).as_posix())
            if language == "{toctree}"
            for line in code.splitlines()
            if line and not line.startswith(":")
        }
        here = {path.stem for path in index.parent.glob("*.md")} | {
            f"{path.parent.name}/index" for path in index.parent.glob("*/index.md")
        }
        assert listed == here - {"index"}
