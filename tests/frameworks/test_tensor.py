"""Frames as tensors of torch: writable, copied, lent; each dtype; the slot is held as long as it is used."""

import pickle
import re
import threading

import numpy as np
import pytest

from support.waiting import settle

torch = pytest.importorskip("torch")

from shmring._arrays import TENSOR_DTYPES  # noqa: E402
from shmring.torch import as_tensor  # noqa: E402

pytestmark = pytest.mark.slow

NUMBERS = sorted(TENSOR_DTYPES, key=str)
OTHERS = [
    ">u2", ">f8", ">c8", "M8[us]", ">m8[s]", "longdouble", "clongdouble", "S4", "U3", "V8",
    [("x", "u1"), ("y", "f4")],
]  # fmt: skip
WAYS = [None, True, False]


def content(shape, dtype) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, shape).astype(dtype)


@pytest.fixture
def publish(make):
    """`publish(array, n)`: a consumer of a ring that has the array n times."""

    def start(array, count=1, **options):
        ring = make(shape=array.shape, dtype=array.dtype, slots=4, **options)
        producer = ring.producer()
        for _ in range(count):
            producer.put(array)
        producer.close()
        return ring.consumer()

    opened = []
    yield lambda *arguments, **options: opened.append(start(*arguments, **options)) or opened[-1]
    for consumer in opened:
        consumer.close()


# ---- what it is


@pytest.mark.parametrize("copy", WAYS)
@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_each_dtype_of_numbers(publish, dtype, copy):
    array = content((3, 700), dtype)
    with publish(array).get(0) as frame:
        tensor = as_tensor(frame, copy)
        assert tensor.shape == array.shape
        assert np.array_equal(tensor.numpy(), array)
        assert tensor.numpy().dtype == dtype


@pytest.mark.parametrize("dtype", OTHERS, ids=str)
def test_a_dtype_that_torch_lacks_is_refused_with_a_conversion_that_works(publish, dtype):
    array = np.zeros((3,), dtype)
    frame = publish(array).get(0)
    with pytest.raises(
        TypeError, match=r"torch has no dtype for .*; convert it: torch\.from_numpy"
    ) as raised:
        as_tensor(frame)
    conversion = re.search("convert it: (.*)$", str(raised.value))[1]
    assert eval(conversion, {"torch": torch, "frame": frame}).numpy().tolist() is not None


@pytest.mark.parametrize(
    ("kind", "carrier"), [("bfloat16", "u2"), ("float8_e4m3fn", "u1"), ("float8_e5m2", "u1")]
)
def test_small_floats_travel_as_integers(publish, kind, carrier):
    floats = torch.tensor([0.5, -2.0, 1.0], dtype=getattr(torch, kind))
    array = floats.view(torch.uint16 if carrier == "u2" else torch.uint8).numpy()
    with publish(array).get(0) as frame:
        back = as_tensor(frame).view(floats.dtype)
        assert back.float().tolist() == [0.5, -2.0, 1.0]


@pytest.mark.parametrize("copy", WAYS)
def test_a_frame_without_axes_and_one_without_rows(make, publish, copy):
    assert as_tensor(publish(np.array(7.0)).get(0), copy).item() == 7.0
    ring = make(shape=(4, 2), dtype="f4", variable_rows=True)
    with ring.producer() as producer, ring.consumer() as consumer:
        for rows in (0, 3):
            producer.put(np.ones((rows, 2), "f4"))
            tensor = as_tensor(consumer.get(0), copy)
            assert (tensor.shape, tensor.sum().item()) == ((rows, 2), 2 * rows)


@pytest.mark.parametrize("copy", WAYS)
def test_a_batch_across_the_end_of_the_ring(make, copy):
    words = 1 << 18  # large enough to be mapped
    ring = make(shape=(words,), dtype="i4", slots=4)
    with ring.producer() as producer, ring.consumer() as consumer:
        for number in range(6):
            producer.put(np.full(words, number, "i4"))
            if number < 3:
                consumer.get(0).release()
        with consumer.batch(3, 3, timeout=0) as batch:
            tensor = as_tensor(batch, copy)
            assert tensor.shape == (3, words)
            assert tensor[:, 0].tolist() == tensor[:, -1].tolist() == [3, 4, 5]
        assert consumer.held == (0 if copy else 3)
        del tensor
        assert consumer.held == 0


def test_wrong_arguments(publish):
    frame = publish(np.ones(4, "f4")).get(0)
    with pytest.raises(TypeError, match="takes a Frame or a Batch, not ndarray"):
        as_tensor(frame.array)
    with pytest.raises(TypeError, match="copy"):
        as_tensor(frame, "yes")
    frame.release()
    for copy in WAYS:
        with pytest.raises(ValueError, match="was released"):
            as_tensor(frame, copy)


# ---- who sees what is written


@pytest.mark.parametrize("shape", [(4,), (1 << 20,)], ids=["small", "large"])
@pytest.mark.parametrize("copy", [None, True])
def test_nobody_else_sees_what_is_done_in_place(make, shape, copy):
    ring = make(shape=shape, dtype="f4", slots=4)
    with ring.producer() as producer, ring.consumer() as one, ring.consumer() as two:
        producer.put(np.ones(shape, "f4"))
        frame, other = one.get(0), two.get(0)
        tensor = as_tensor(frame, copy)
        tensor.mul_(3).add_(0.5)
        tensor[0] = 9
        assert (frame.array == 1).all()
        assert (other.array == 1).all()
        assert (as_tensor(frame, copy) == 1).all()
        assert tensor[0] == 9
        assert (tensor[1:] == 3.5).all()
        del tensor


def test_what_is_lent_is_the_slot_itself_without_a_warning(publish):
    frame = publish(np.ones(4, "f4")).get(0)
    assert as_tensor(frame, copy=False).data_ptr() == frame.array.ctypes.data
    assert as_tensor(frame, copy=True).data_ptr() != frame.array.ctypes.data


# ---- how long the slot is held

USES = {
    "tensor": lambda tensor: tensor,
    "view": lambda tensor: tensor[1:, ::2].T,
    "detached": lambda tensor: tensor.detach(),
    "storage": lambda tensor: tensor.untyped_storage(),
    "array": lambda tensor: tensor.numpy(),
    "view of array": lambda tensor: tensor.numpy()[1:],
    "memoryview": lambda tensor: memoryview(tensor.numpy()),
    "from_dlpack": lambda tensor: torch.from_dlpack(tensor),
    "numpy.from_dlpack": lambda tensor: np.from_dlpack(tensor),
    "as_tensor": lambda tensor: torch.as_tensor(tensor.numpy()),
    "graph": lambda tensor: tensor.requires_grad_() * tensor,
}


@pytest.mark.parametrize("copy", [None, False])
@pytest.mark.parametrize("use", USES)
def test_the_slot_is_held_as_long_as_its_memory_is_used(publish, use, copy):
    array = np.arange(1 << 18, dtype="f4").reshape(512, 512)
    consumer = publish(array)
    with consumer.get(0) as frame:
        used = USES[use](as_tensor(frame, copy))
    settle()
    assert consumer.held == 1
    del used, frame
    settle()
    assert consumer.held == 0


@pytest.mark.parametrize("copy", [None, False])
def test_the_slot_goes_back_in_any_thread(publish, copy):
    consumer = publish(np.ones((512, 512), "f4"))
    tensors = [as_tensor(consumer.get(0), copy)]
    thread = threading.Thread(target=tensors.clear)
    thread.start()
    thread.join()
    assert consumer.held == 0


@pytest.mark.parametrize("copy", [None, False])
def test_the_memory_stays_when_consumer_and_ring_are_closed(make, copy):
    ring = make(shape=(512, 512), dtype="f4", slots=4)
    with ring.producer() as producer, ring.consumer() as consumer:
        producer.put(np.ones((512, 512), "f4"))
        tensor = as_tensor(consumer.get(0), copy)
    ring.unlink()
    ring.close()
    assert tensor.sum().item() == 512 * 512


COPIES = {
    "clone": torch.clone,
    "pickle": lambda tensor: pickle.loads(pickle.dumps(tensor)),
    "share_memory_": lambda tensor: tensor.share_memory_(),
    "+ 1": lambda tensor: tensor + 1,
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_what_is_copied_does_not_hold_the_slot(publish, copied):
    consumer = publish(np.ones((512, 512), "f4"))
    kept = copied(as_tensor(consumer.get(0)))
    settle()
    assert consumer.held == 0
    assert kept.max() >= 1
