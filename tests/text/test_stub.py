"""The stub of the compiled core says what the core says: editors show its docstrings."""

import importlib.util
from pathlib import Path

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
