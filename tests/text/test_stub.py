"""The stub of the compiled core says what the core says: editors show its docstrings."""

import ast
import importlib.util
import inspect
from pathlib import Path

import pytest

from shmring import _core

TREE = Path(__file__).parents[2]


def test_the_stub_carries_the_docstrings_of_the_core():
    spec = importlib.util.spec_from_file_location("stub", TREE / "docs" / "stub.py")
    stub = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stub)
    assert stub.wanted(stub.STUB.read_text()) == stub.STUB.read_text(), "run: python docs/stub.py"


def test_every_public_method_of_the_handles_is_documented_in_the_stub():
    text = (TREE / "shmring" / "_core.pyi").read_text()
    assert "Take the next frame, waiting for it if need be." in text
    assert "Whether this consumer holds the producer back rather than lose a frame." in text


HANDLES = ("Producer", "Slot", "Consumer", "Frame", "Batch")


@pytest.mark.parametrize("name", HANDLES)
def test_methods_of_the_handles_have_the_signatures_of_the_stub(name):
    tree = ast.parse((TREE / "shmring" / "_core.pyi").read_text())
    stub = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    methods = [
        node for node in stub.body
        if isinstance(node, ast.FunctionDef) and not node.decorator_list and not node.name.startswith("_")
    ]  # fmt: skip
    assert methods or name in ("Frame", "Batch")
    for node in methods:
        found = inspect.signature(getattr(getattr(_core, name), node.name)).parameters.values()
        wanted = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        assert [one.name for one in found] == [one.arg for one in wanted], node.name
        given = [*node.args.defaults, *(one for one in node.args.kw_defaults if one is not None)]
        defaults = [one.default for one in found if one.default is not one.empty]
        assert defaults == [ast.literal_eval(one) for one in given], node.name
