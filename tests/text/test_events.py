"""Every line of the table "What happens when" is claimed by a test that runs by default."""

import ast
import functools
from pathlib import Path

from support.events import EVENTS

TESTS = Path(__file__).parents[1]


def markers(function: ast.FunctionDef) -> list[tuple[str, ast.expr]]:
    """(name, node) of each @pytest.mark.<name> of a test."""
    found = []
    for decorator in function.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "pytest.mark":
            found.append((target.attr, decorator))
    return found


@functools.cache
def claims() -> dict[str, list[str]]:
    """Event: the tests that claim it. Stress tests do not count."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        tree = ast.parse(path.read_text())
        constants = {
            node.targets[0].id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef) or not function.name.startswith("test_"):
                continue
            marked = markers(function)
            if any(name in ("stress", "skip") for name, _ in marked):
                continue
            for name, decorator in marked:
                if name == "event":
                    (line,) = decorator.args
                    text = line.value if isinstance(line, ast.Constant) else constants[line.id]
                    found.setdefault(text, []).append(f"{path.name}::{function.name}")
    return found


def test_every_event_is_tested():
    assert [event for event in EVENTS if event not in claims()] == []


def test_only_events_of_the_table_are_claimed():
    assert set(claims()) - set(EVENTS) == set()


def test_the_table_has_no_line_twice():
    assert len(set(EVENTS)) == len(EVENTS) == 25
