"""Writes the docstrings of the compiled core into its stub, where editors look for them.

python docs/stub.py     after a change of a docstring in src/; tests/text/test_stub.py fails where they differ
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from pathlib import Path

from shmring import _core

STUB = Path(__file__).parents[1] / "shmring" / "_core.pyi"


def docstring(owner: object, name: str) -> str | None:
    """What the built module says about a name, without the signature that Cython puts first."""
    text = getattr(getattr(owner, name, None), "__doc__", None)
    if text is None or name.startswith("_"):
        return None
    first, _, rest = text.partition("\n")
    return inspect.cleandoc(rest if first.startswith(f"{name}(") else text) or None


def wanted(stub: str) -> str:
    """The stub with the docstrings of today."""
    lines = stub.splitlines()
    for node, owner in reversed(list(definitions(ast.parse(stub).body, _core))):
        text = docstring(owner, node.name)
        if text is not None and not is_setter(node):
            put(lines, node, text)
    return "\n".join(lines) + "\n"


Definition = ast.FunctionDef | ast.ClassDef


def definitions(body: list[ast.stmt], owner: object):
    """Every function and class, with what it is an attribute of, in order."""
    for node in body:
        if isinstance(node, Definition) and not hasattr(owner, node.name):
            continue  # a type for type checkers alone
        if isinstance(node, Definition):
            yield node, owner
        if isinstance(node, ast.ClassDef):
            yield from definitions(node.body, getattr(owner, node.name))


def is_setter(node: Definition) -> bool:
    return any(isinstance(one, ast.Attribute) for one in node.decorator_list)


def put(lines: list[str], node: Definition, text: str) -> None:
    """Make `text` the docstring of a definition, whose lines follow none that was changed before."""
    first = node.body[0]
    indent = " " * (node.col_offset + 4)
    quoted = f'"""{text}\n"""' if "\n" in text else f'"""{text}"""'
    new = textwrap.indent(quoted, indent).splitlines()
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        head = lines[first.lineno - 1][: first.col_offset].rstrip()
        lines[first.lineno - 1 : first.end_lineno] = [*([head] if head else []), *new]
    else:
        start = min([first.lineno, *(one.lineno for one in getattr(first, "decorator_list", []))])
        lines[start - 1 : start - 1] = [*new, ""]


if __name__ == "__main__":
    STUB.write_text(wanted(STUB.read_text()))
