"""MessageQueue with objects of torch and JAX."""

import numpy as np
import pytest

from shmring.broadcast import MessageQueue


@pytest.fixture
def queue(nothing_left_behind, name):
    """A writer and its reader, of chunks that are smaller than the tensors here."""
    with (
        MessageQueue(1, max_chunk_bytes=4032, name=name) as writer,
        MessageQueue.create_from_handle(writer.export_handle(), 0) as reader,
    ):
        yield writer, reader


def test_tensors_of_torch(queue):
    torch = pytest.importorskip("torch")
    writer, reader = queue
    for dtype in (torch.float32, torch.bfloat16, torch.bool):
        tensor = torch.arange(6000).reshape(60, 100).to(dtype)
        for given in (tensor, tensor[::2, 1:], tensor.T):
            writer.enqueue({"tensor": given}, 0)
            found = reader.dequeue(0)["tensor"]
            assert found.dtype == dtype
            assert torch.equal(found, given)


def test_what_arrives_is_a_tensor_without_a_copy(queue):
    torch = pytest.importorskip("torch")
    writer, reader = queue
    writer.enqueue(torch.arange(6000).numpy(), 0)
    array = reader.dequeue(0)
    tensor = torch.from_numpy(array)
    tensor += 1
    assert array[0] == 1


def test_arrays_of_jax(queue):
    jax = pytest.importorskip("jax")
    writer, reader = queue
    writer.enqueue([jax.numpy.arange(6000.0)], 0)
    (found,) = reader.dequeue(0)
    assert isinstance(found, jax.Array)
    np.testing.assert_array_equal(found, np.arange(6000.0))
