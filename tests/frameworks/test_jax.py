"""Frames as arrays of JAX: the slot itself, held no longer than the array lives."""

import doctest
import re
import sys

import numpy as np
import pytest

from support.waiting import wait_until

jax = pytest.importorskip("jax")

import shmring.jax  # noqa: E402
from shmring._arrays import TENSOR_DTYPES  # noqa: E402

pytestmark = pytest.mark.slow

LACKING = [
    ">u2", ">f8", "M8[us]", ">m8[s]", "longdouble", "clongdouble", "S4", "U3", "V8",
    [("x", "u1"), ("y", "f4")],
]  # fmt: skip


@pytest.fixture(params=[False, True], ids=["x32", "x64"])
def x64(request):
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", request.param)
    yield request.param
    jax.config.update("jax_enable_x64", before)


def publish(make, array):
    ring = make(shape=array.shape, dtype=array.dtype, slots=4)
    with ring.producer() as producer:
        for _ in range(2):
            producer.put(array)
    return ring.consumer()


def address(array) -> int:
    return array.unsafe_buffer_pointer()


@pytest.mark.parametrize("dtype", sorted(TENSOR_DTYPES, key=str), ids=str)
def test_each_dtype_of_numbers(make, dtype, x64):
    numbers = np.arange(6).reshape(2, 3).astype(dtype)
    kept = jax.dtypes.canonicalize_dtype(dtype) == dtype
    with publish(make, numbers) as consumer:
        frame = consumer.get(0)
        for copy in (None, True):
            array = shmring.jax.asarray(frame, copy)
            assert array.dtype == jax.dtypes.canonicalize_dtype(dtype)
            assert array.shape == (2, 3)
            assert np.array_equal(array, numbers)
        if kept:
            assert address(shmring.jax.asarray(frame, copy=False)) == frame.array.ctypes.data
        else:
            with pytest.raises(ValueError, match="which takes a copy: allow it"):
                shmring.jax.asarray(frame, copy=False)
        del array, frame
        assert consumer.held == 0


@pytest.mark.parametrize("dtype", LACKING, ids=str)
def test_a_dtype_that_jax_lacks_is_refused_with_a_conversion_that_works(make, dtype):
    with publish(make, np.zeros(3, dtype)) as consumer:
        frame = consumer.get(0)
        with pytest.raises(TypeError, match=r"JAX has no dtype for .*; convert it: jax") as raised:
            shmring.jax.asarray(frame)
        conversion = re.search("convert it: (.*)$", str(raised.value))[1]
        assert eval(conversion, {"jax": jax, "frame": frame}).shape[0] >= 1
        frame.release()


def test_the_array_is_the_slot_and_holds_it_until_it_is_gone(make):
    """At once: not until the next call into JAX, or the next collection of garbage."""
    with publish(make, np.ones((64, 64), "f4")) as consumer:
        with consumer.get(0) as frame:
            array = shmring.jax.asarray(frame)
            assert address(array) == frame.array.ctypes.data
        del frame
        assert consumer.held == 1
        assert array.sum() == 4096
        del array
        assert consumer.held == 0


@pytest.mark.parametrize(("shape", "dtype"), [((), "f4"), ((2, 3), "f4"), ((600, 600), "u1")])
def test_a_batch_with_gaps_between_its_frames_is_copied(make, shape, dtype):
    """A slot is a multiple of some bytes that a frame is not, and JAX has no strides."""
    numbers = np.full(shape, 7, dtype)
    with publish(make, numbers) as consumer:
        batch = consumer.batch(2, 2, timeout=0)
        with pytest.raises(ValueError, match=r"no arrays with gaps.*copy=None"):
            shmring.jax.asarray(batch, copy=False)
        array = shmring.jax.asarray(batch)
        batch.release()
        assert array.shape == (2, *shape)
        assert (array == 7).all()
        assert consumer.held == 0


def test_a_batch(make):
    with publish(make, np.ones((64, 64), "f4")) as consumer:
        array = shmring.jax.asarray(consumer.batch(2, 2, timeout=0))
        assert (array.shape, consumer.held) == ((2, 64, 64), 2)
        del array
        assert consumer.held == 0


def test_a_copy_does_not_hold_the_slot(make):
    with publish(make, np.ones((64, 64), "f4")) as consumer:
        array = shmring.jax.asarray(consumer.get(0), copy=True)
        assert consumer.held == 0
        assert array.sum() == 4096


@pytest.mark.parametrize("dtype", ["f4", "f8"])  # f8 becomes f4
def test_a_converted_frame_does_not_hold_the_slot(make, dtype):
    with publish(make, np.ones((64, 64), dtype)) as consumer:
        array = shmring.jax.asarray(consumer.get(0)) + 1
        wait_until(lambda: consumer.held == 0, "the slot is free")
        assert array.sum() == 8192


@pytest.mark.parametrize("shape", [(), (4,), (1 << 20,)], ids=str)
def test_donated_arrays_are_not_written_to(make, shape):
    """The slot is mapped read-only: XLA writes into a donated buffer if it may."""
    with publish(make, np.ones(shape, "f4")) as consumer:
        frame = consumer.get(0)
        for step in (lambda x: x + 1, lambda x: x.at[...].set(2)):
            result = jax.jit(step, donate_argnums=0)(shmring.jax.asarray(frame))
            assert (np.asarray(result) == 2).all()
        assert (frame.array == 1).all()
        frame.release()
        del result, frame


def test_gradients_and_compiled_functions(make):
    with publish(make, np.arange(4, dtype="f4")) as consumer:
        array = shmring.jax.asarray(consumer.get(0))
        assert jax.jit(jax.grad(lambda x: (x * x).sum()))(array).tolist() == [0, 2, 4, 6]


def test_wrong_arguments(make):
    with publish(make, np.ones(4, "f4")) as consumer:
        frame = consumer.get(0)
        with pytest.raises(TypeError, match="takes a Frame or a Batch, not ndarray"):
            shmring.jax.asarray(frame.array)
        with pytest.raises(TypeError, match="copy"):
            shmring.jax.asarray(frame, "yes")
        frame.release()
        with pytest.raises(ValueError, match="was released"):
            shmring.jax.asarray(frame)


def test_the_example_in_the_docstring():
    [example] = doctest.DocTestFinder(recurse=False).find(shmring.jax.asarray, "asarray")
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_without_the_library_the_import_says_what_to_install(monkeypatch, name):
    for module in [key for key in sys.modules if key.startswith(f"shmring.{name}")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf'shmring.{name} needs .*: pip install "shmring\[{name}\]"'):
        __import__(f"shmring.{name}")
