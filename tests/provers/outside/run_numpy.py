"""Run numpy's own checks of saving and of the buffer protocol on frames of the arrays that its tests use.

A process of its own, because numpy's tests bring marks that a strict pytest does not know.
"""

import warnings

import numpy as np

import shmring

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from numpy._core.tests.test_multiarray import TestNewBufferProtocol
    from numpy.lib.tests import test_format


def numpy_imports(source: np.ndarray) -> bool:
    """Whether numpy understands its own export: not of every structured dtype."""
    try:
        np.asarray(memoryview(source))
    except ValueError:
        return False
    return True


def check_as_frame(source: np.ndarray) -> None:
    ring = shmring.Ring.create(shape=source.shape, dtype=source.dtype, slots=2)
    ring.unlink()
    with ring, ring.producer() as producer, ring.consumer() as consumer:
        producer.put(source)
        array = consumer.get(0).array
        assert array.dtype == source.dtype
        np.testing.assert_array_equal(array, source)
        np.testing.assert_array_equal(test_format.roundtrip(array), source)
        if numpy_imports(source):
            TestNewBufferProtocol()._check_roundtrip(array)


sources = [*test_format.basic_arrays, *test_format.record_arrays]
possible = [
    source for source in sources if source.size and not source.dtype.hasobject
]  # a ring refuses the others
for source in possible:
    check_as_frame(source)
print(f"{len(possible)} of numpy's {len(sources)} arrays as frames")
