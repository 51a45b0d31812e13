"""The rooms of the code use each other as the architecture page says, and in no other way."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

TREE = Path(__file__).parents[2]
PAGE = TREE / "docs" / "architecture.md"
HEADERS = TREE / "shmring" / "include" / "shmring"
PUBLIC, INTERNAL = "shmring/include/shmring/", "shmring/include/shmring/internal/"
UPWARDS = {"shmring/__init__.py", "shmring/__main__.py"}  # what they may import, they import when used


def allowed() -> dict[str, str]:
    """The table: a room, and the text of what it may use."""
    rows = re.findall(r"^\| `([\w/]+/)` \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    return dict(rows)


def room_of(path: Path) -> str:
    return path.parent.relative_to(TREE).as_posix() + "/"


def may_use(room: str, other: str) -> bool:
    return "each other" in allowed()[room] if other == room else f"`{other}`" in allowed()[room]


def file_of(module: str, name: str = "") -> Path | None:
    """The file of `from module import name`: of the module `name`, or of `module` itself."""
    if f"{module}.{name}" == "shmring._core" or module == "shmring._core":
        return TREE / "src" / "_core.pyx"
    for dotted in [f"{module}.{name}", module]:
        place = TREE.joinpath(*dotted.split("."))
        for file in [place.with_suffix(".py"), place / "__init__.py"]:
            if file.exists():
                return file
    return None


def imports(path: Path) -> Iterator[Path]:
    """The files of this project that a Python module imports, when loaded or later."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [(alias.name, "") for alias in node.names]
        else:
            continue
        for module, name in names:
            if module.split(".")[0] == "shmring" and (file := file_of(module, name)):
                yield file


def python_modules() -> list[Path]:
    return sorted((TREE / "shmring").rglob("*.py"))


def test_every_room_has_a_row() -> None:
    rooms = {room_of(path) for path in python_modules()} | {"src/", PUBLIC, INTERNAL}
    assert set(allowed()) == rooms


def test_python_modules_import_as_the_page_says() -> None:
    wrong = [
        f"{path.relative_to(TREE)} uses {other.relative_to(TREE)}"
        for path in python_modules()
        if path.relative_to(TREE).as_posix() not in UPWARDS
        for other in imports(path)
        if not may_use(room_of(path), room_of(other))
    ]
    assert not wrong, "\n".join(wrong)


def test_the_core_imports_only_from_the_package_itself() -> None:
    """Not from recording, the demo or the commands."""
    found = re.findall(r"^\s*from (shmring[\w.]*) import ([\w, ]+)", core_sources(), re.MULTILINE)
    files = {file_of(module, name.strip()) for module, names in found for name in names.split(",")}
    assert TREE / "shmring" / "errors.py" in files
    assert {room_of(file) for file in files if file} == {"shmring/"}


def core_sources() -> str:
    return "".join(path.read_text() for path in sorted((TREE / "src").glob("*.p[xy][xid]")))


def included(path: Path) -> list[Path]:
    """The headers of this project that a header includes."""
    named = re.findall(r'^\s*#include "([\w./]+)"', path.read_text(), re.MULTILINE)
    return [(path.parent / name).resolve() for name in named]


def test_headers_include_as_the_page_says() -> None:
    """Internal headers know of the public ones only what the page names."""
    wrong = [
        f"{path.relative_to(HEADERS)} includes {other.relative_to(HEADERS)}"
        for path in sorted(HEADERS.rglob("*.h"))
        for other in included(path)
        if not may_use(room_of(path), room_of(other)) and f"`{other.name}`" not in allowed()[room_of(path)]
    ]
    assert not wrong, "\n".join(wrong)


def test_headers_include_in_one_direction() -> None:
    graph = {path.resolve(): included(path) for path in HEADERS.rglob("*.h")}
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)


def test_the_core_includes_public_headers_only() -> None:
    text = core_sources() + "".join(path.read_text() for path in (TREE / "src").glob("*.h"))
    used = re.findall(r'"(shmring/[\w./]+\.h)"', text)
    assert used
    assert not [name for name in used if "internal" in name]


def test_tests_import_what_they_share_without_the_tree() -> None:
    """`support`, not `tests.support`: pytest 8 has no package `tests` where it tests an installed package."""
    wrong = re.compile(r"^\s*(?:from|import) tests\b", re.MULTILINE)
    assert [str(path) for path in (TREE / "tests").rglob("*.py") if wrong.search(path.read_text())] == []
