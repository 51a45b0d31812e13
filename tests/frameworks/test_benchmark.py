"""The benchmark of loaders: each of them brings every batch, in order."""

import functools
import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

TREE = Path(__file__).parents[2]
sys.path.append(str(TREE))  # benchmarks/ is not installed

from benchmarks import loader  # noqa: E402
from benchmarks.harness.isolation import isolated  # noqa: E402

LOADERS = [*loader.loaders()]


def test_the_loaders_that_are_there_are_compared() -> None:
    assert LOADERS[:2] == [loader.BASE, "RingLoader"]
    assert ("SPDL" in LOADERS) == (importlib.util.find_spec("spdl") is not None)


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("reads", [False, True])
def test_every_batch_comes_in_order(name: str, reads: bool) -> None:
    case = loader.ready("small", 1 << 12, 8)
    assert isolated(functools.partial(loader.rate, name, case, 2, loader.WARM_UP + 4, reads)) > 0
