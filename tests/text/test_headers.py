"""What C and C++ programs may call, apart from what the headers use inside."""

import re
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
INCLUDE = TREE / "shmring" / "include" / "shmring"
PUBLIC = sorted(INCLUDE.glob("*.h"))
INTERNAL = sorted((INCLUDE / "internal").glob("*.h"))
USERS = [TREE / "README.md", *TREE.glob("docs/how-to/*.md"), *TREE.glob("examples/**/*.[ch]")]

FUNCTION = re.compile(r"^(?:static inline|SHMRING_LINKED_ONCE)\b[^;{]*?^(shmring_\w+)\(", re.MULTILINE)
LISTED = re.compile(r"^ \* (?:(\w+\.h)\b.*|    (shmring_\w+)\b.*)$", re.MULTILINE)


def functions(path: Path) -> list[str]:
    """The functions that a header defines."""
    return FUNCTION.findall(path.read_text())


def listed() -> dict[str, list[str]]:
    """What the list at the head of shmring.h says that each header offers."""
    comment = (INCLUDE / "shmring.h").read_text().partition("*/")[0]
    found: dict[str, list[str]] = {}
    for header, function in LISTED.findall(comment):
        if header:
            found[header] = []
        else:
            found[next(reversed(found))].append(function)
    return found


def test_the_list_of_shmring_h_is_what_the_public_headers_define() -> None:
    defined = {path.name: sorted(functions(path)) for path in PUBLIC if functions(path)}
    assert {header: sorted(names) for header, names in listed().items()} == defined
    assert sum(map(len, defined.values())) > 30


@pytest.mark.parametrize("path", PUBLIC, ids=lambda path: path.name)
def test_every_public_function_is_explained(path: Path) -> None:
    lines = path.read_text().splitlines()
    silent = [
        lines[number + 1]
        for number, line in enumerate(lines)
        if line.startswith("static inline") and not lines[number - 1].endswith("*/")
    ]
    assert not silent, silent


def test_programs_and_pages_for_users_name_public_functions_only() -> None:
    internal = {name for path in INTERNAL for name in functions(path)}
    assert len(internal) > 60
    for path in USERS:
        text = path.read_text()
        used = sorted(internal & set(re.findall(r"\bshmring_\w+", text)))
        assert not used, f"{path.relative_to(TREE)} uses {used}"
        assert "<shmring/internal/" not in text, path.relative_to(TREE)


def test_no_name_is_defined_twice() -> None:
    names = [name for path in [*PUBLIC, *INTERNAL] for name in functions(path)]
    assert len(names) == len(set(names))
