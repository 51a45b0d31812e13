"""What a frame may be made of: dtypes, shapes, per-frame meta, rows."""

import numpy as np
import pytest

import shmring
from support.blocks import block_file
from support.frames import WORDS, check, drain, feed, fill, payload

DTYPES = [
    "?",
    "i1",
    "u1",
    "<i2",
    ">i2",
    ">u4",
    "<i8",
    "<f2",
    ">f4",
    "<f8",
    "longdouble",
    "<c8",
    ">c16",
    "S5",
    "<U3",
    ">U3",
    "<M8[ns]",
    "<M8[25s]",
    ">m8[us]",
    "V12",
    [("a", "<i4"), ("b", ">f8", (2,)), ("c", "S3")],
    [("outer", [("inner", "<u2"), ("deep", [("x", "f4"), ("y", "f4")], (2, 2))]), ("flag", "?")],
    np.dtype([("a", "u1"), ("b", "<f8")], align=True),
    np.dtype({"names": ["early", "late"], "formats": ["<i4", ">i2"], "offsets": [4, 17], "itemsize": 32}),
]


def sample(shape, dtype, seed=0):
    """Values of any dtype: random bytes that are valid for it."""
    random = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    out = np.zeros(shape, dtype)
    if dtype.names:
        for field in dtype.names:
            out[field] = sample(out[field].shape, out[field].dtype, seed + 1)
        return out
    numbers = random.integers(0, 100, out.shape)
    if dtype.kind in "SU":
        return numbers.astype(dtype)
    if dtype.kind == "V":
        return np.frombuffer(random.bytes(out.nbytes), dtype).reshape(out.shape)
    if dtype.kind == "c":
        return (numbers + 1j * numbers[::-1]).astype(dtype)
    return numbers.astype(dtype)


def same(one, two) -> bool:
    """Equal in every field; padding may differ."""
    if one.dtype.names:
        return all(same(one[field], two[field]) for field in one.dtype.names)
    return one.dtype == two.dtype and np.array_equal(one, two)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_dtype_survives_the_round_trip(make, dtype):
    ring = make(shape=(3, 4), dtype=dtype)
    expected = np.dtype(dtype)
    with shmring.Ring.attach(ring.name) as other, ring.producer() as producer, other.consumer() as consumer:
        assert other.dtype == ring.dtype == expected
        assert other.dtype.itemsize == expected.itemsize
        assert other.dtype.fields == expected.fields
        for seed in range(3):
            value = sample((3, 4), dtype, seed)
            producer.put(value)
            frame = consumer.get(0)
            assert frame.array.dtype == expected
            assert frame.array.shape == (3, 4)
            assert same(frame.array, value)
            assert np.asarray(frame).dtype == expected
            assert same(np.asarray(frame), value)
            frame.release()
        with producer.claim() as slot:
            assert slot.array.dtype == expected
            slot.array[...] = value
        assert same(consumer.get(0).array, value)


def test_a_sub_array_dtype_adds_its_axes_as_numpy_does(make):
    ring = make(shape=(2,), dtype=np.dtype(("<f4", (3,))))
    assert ring.shape == np.zeros(2, np.dtype(("<f4", (3,)))).shape == (2, 3)
    assert ring.dtype == np.dtype("<f4")
    with ring.producer() as producer, ring.consumer() as consumer:
        producer.put(np.arange(6, dtype="<f4").reshape(2, 3))
        assert consumer.get(0).array.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_frame_without_axes(make):
    ring = make(shape=(), dtype=[("t", "f8"), ("n", "i4")])
    assert ring.shape == ()
    with ring.producer() as producer, ring.consumer() as consumer:
        producer.put(np.array((1.5, 3), ring.dtype))
        with producer.claim() as slot:
            assert slot.array.shape == ()
            slot.array[...] = (2.5, 4)
        with producer.claim(2) as slot:
            assert slot.array.shape == (2,)
            slot.array["t"], slot.array["n"] = [3.5, 4.5], [5, 6]
        frames = [consumer.get(0) for _ in range(2)]
        assert all(frame.array.shape == () for frame in frames)
        assert [frame.array.item() for frame in frames] == [(1.5, 3), (2.5, 4)]
        assert consumer.batch(2).array.tolist() == [(3.5, 5), (4.5, 6)]
        frames.clear()
        producer.put(np.zeros((), ring.dtype)[()])  # a numpy scalar is one too
        assert consumer.get(0).array.item() == (0, 0)


def test_numbers_can_be_put_into_a_ring_without_axes(make):
    ring = make(shape=(), dtype="f8")
    with ring.producer() as producer, ring.consumer() as consumer:
        producer.put(2.5)
        assert consumer.get(0).array == 2.5
        with pytest.raises(ValueError, match="shape"):
            producer.put([2.5])


def test_many_axes(make):
    shape = (1, 2, 1, 3, 1, 2, 1, 1, 2, 1, 1, 1, 1, 2, 1, 3)
    ring = make(shape=shape, dtype="<i2")
    value = np.arange(144, dtype="<i2").reshape(shape)
    with ring.producer() as producer, ring.consumer() as consumer:
        producer.put(value)
        assert np.array_equal(consumer.get(0).array, value)


@pytest.mark.parametrize(
    "dtype",
    ["O", [("a", "i4"), ("b", "O")], [("a", [("b", "O", (2,))])], "S0", "U0", "V0", []],
    ids=str,
)
def test_objects_and_nothing_are_refused(name, dtype):
    with pytest.raises((ValueError, TypeError), match="dtype"):
        shmring.Ring.create(name, shape=(4,), dtype=dtype, slots=2)
    assert not block_file(name).exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"names": ["late", "early"], "formats": ["<i4", "<i2"], "offsets": [8, 0], "itemsize": 32},
        {"names": ["all", "part"], "formats": ["<i4", "<i2"], "offsets": [0, 0]},
    ],
    ids=["out-of-order", "overlapping"],
)
def test_dtypes_that_npy_cannot_describe_work_or_are_refused_by_name(name, fields):
    dtype = np.dtype(fields)
    for argument in ("dtype", "meta"):
        arguments = {"shape": (4,), "dtype": "u1", "slots": 2, argument: dtype}
        try:
            with shmring.Ring.create(name, **arguments) as ring:
                assert ring.dtype == dtype or ring.meta_dtype == dtype
        except ValueError as error:
            if not str(error).startswith(argument):
                raise
        assert not block_file(name).exists()


def test_variable_width_strings_are_refused(name):
    with pytest.raises((ValueError, TypeError), match="dtype"):
        shmring.Ring.create(name, shape=(4,), dtype=np.dtypes.StringDType(), slots=2)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 0)])
def test_empty_frames_are_refused(name, shape):
    with pytest.raises(ValueError, match="shape"):
        shmring.Ring.create(name, shape=shape, dtype="u1", slots=2)


# ---- meta


META = np.dtype([("gain", "<f8"), ("flags", ">u2"), ("tag", "S4")])


@pytest.mark.parametrize(
    "value",
    [(1.5, 3, b"ab"), np.array((1.5, 3, b"ab"), META), np.array((1.5, 3, b"ab"), META)[()]],
    ids=["tuple", "array", "scalar"],
)
def test_structured_meta(make, value):
    ring = make(meta=META)
    assert ring.meta_dtype == META
    with shmring.Ring.attach(ring.name) as other, ring.producer() as producer, other.consumer() as consumer:
        assert other.meta_dtype == META
        producer.put(payload(0), meta=value)
        with producer.claim() as slot:
            fill(slot)
            slot.meta = value
        for _ in range(2):
            frame = consumer.get(0)
            assert (frame.meta["gain"], frame.meta["flags"], frame.meta["tag"]) == (1.5, 3, b"ab")
            check(frame)


def test_plain_meta(make):
    ring = make(meta="f4")
    with ring.producer() as producer, ring.consumer() as consumer:
        producer.put(payload(0), meta=2.5)
        assert consumer.get(0).meta == 2.5


def test_meta_that_is_not_given_is_zero_and_never_an_old_one(make):
    ring = make(meta=META)
    with ring.producer() as producer, ring.consumer() as consumer:
        for _ in range(ring.slots):
            producer.put(payload(producer.next_seq), meta=(7, 7, b"old"))
            consumer.get(0)
        for _ in range(ring.slots):
            feed(producer, 1)
            assert consumer.get(0).meta.tolist() == (0, 0, b"")
            with producer.claim() as slot:
                fill(slot)
            assert consumer.get(0).meta.tolist() == (0, 0, b"")


def test_meta_is_the_frames_own_and_stays(make):
    ring = make(meta="i8")
    with ring.producer() as producer, ring.consumer() as consumer:
        producer.put(payload(0), meta=-5)
        frame = consumer.get(0)
        for _ in range(3 * ring.slots):
            producer.put(payload(producer.next_seq), meta=99)
            consumer.get(0)
        assert frame.meta == -5


@pytest.mark.parametrize("wrong", ["text", (1, 2), (1, 2, b"x", 4), object()], ids=str)
def test_meta_that_does_not_fit_is_refused(make, wrong):
    ring = make(meta=META)
    with ring.producer() as producer, ring.consumer() as consumer:
        with pytest.raises((ValueError, TypeError)):
            producer.put(payload(0), meta=wrong)
        assert consumer.try_get() is None
        feed(producer, 1)
        assert drain(consumer) == [0]


def test_meta_in_a_ring_without_meta_is_refused(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        with pytest.raises((ValueError, TypeError), match="meta"):
            producer.put(payload(0), meta=1)
        with pytest.raises((ValueError, TypeError), match="meta"), producer.claim() as slot:
            slot.meta = 1
        assert drain(consumer) == []


def test_meta_of_several_frames(make):
    ring = make(meta="i8")
    with ring.producer() as producer, ring.consumer() as consumer:
        with producer.claim(3) as slot:
            fill(slot)
            slot.meta = [4, 5, 6]
        assert [int(consumer.get(0).meta) for _ in range(3)] == [4, 5, 6]


def test_big_meta(make):
    ring = make(meta=[("table", "u1", (1000,))])
    value = np.arange(1000).astype("u1")
    with ring.producer() as producer, ring.consumer() as consumer:
        for _ in range(2 * ring.slots):
            producer.put(payload(producer.next_seq), meta=(value,))
            frame = consumer.get(0)
            check(frame)
            assert np.array_equal(frame.meta["table"], value)


def test_object_meta_is_refused(name):
    with pytest.raises((ValueError, TypeError), match="meta"):
        shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2, meta="O")


# ---- rows


def test_rows_tell_the_valid_part(make):
    ring = make(shape=(10, 3), dtype="i4", variable_rows=True)
    assert ring.variable_rows
    with ring.producer() as producer, ring.consumer() as consumer:
        with producer.claim() as slot:
            assert slot.rows == 10
            slot.array[:4] = 7
            slot.rows = 4
        frame = consumer.get(0)
        assert frame.rows == 4
        assert frame.array[: frame.rows].tolist() == [[7, 7, 7]] * 4
        frame.release()
        with producer.claim() as slot:
            slot.rows = 0
        assert consumer.get(0).rows == 0


def test_rows_that_are_not_given_are_all_and_never_an_old_number(make):
    ring = make(shape=(8, WORDS // 8), variable_rows=True)
    with ring.producer() as producer, ring.consumer() as consumer:
        for _ in range(ring.slots):
            with producer.claim() as slot:
                slot.rows = 1
            consumer.get(0)
        for _ in range(ring.slots):
            with producer.claim():
                pass
            assert consumer.get(0).rows == 8


def test_a_shorter_array_can_be_put_into_a_ring_of_variable_rows(make):
    ring = make(shape=(10, 3), dtype="i4", variable_rows=True)
    with ring.producer() as producer, ring.consumer() as consumer:
        value = np.arange(12, dtype="i4").reshape(4, 3)
        producer.put(value)
        frame = consumer.get(0)
        assert frame.rows == 4
        assert frame.array[:4].tolist() == value.tolist()
        for wrong in (np.zeros((11, 3), "i4"), np.zeros((4, 2), "i4"), np.zeros(3, "i4")):
            with pytest.raises(ValueError, match="shape"):
                producer.put(wrong)


def test_a_shorter_array_is_cast_when_asked_for(make):
    ring = make(shape=(10, 3), dtype="i4", variable_rows=True)
    with ring.producer() as producer, ring.consumer() as consumer:
        for rows in (4, 1, 10):
            value = np.arange(3.0 * rows).reshape(rows, 3)
            producer.put(value, casting="unsafe")
            producer.put_many(value[None], casting="unsafe")
            for _ in range(2):
                frame = consumer.get(0)
                assert frame.rows == rows
                assert frame.array[:rows].tolist() == value.tolist()


@pytest.mark.parametrize("rows", [-1, 11, "3", 2.5])
def test_impossible_rows_are_refused(make, rows):
    ring = make(shape=(10, 3), dtype="i4", variable_rows=True)
    with ring.producer() as producer, pytest.raises((ValueError, TypeError)), producer.claim() as slot:
        slot.rows = rows


def test_rows_need_variable_rows(make):
    ring = make(shape=(10, 3), dtype="i4")
    with ring.producer() as producer, ring.consumer() as consumer:
        with pytest.raises((ValueError, TypeError, AttributeError), match="rows"), producer.claim() as slot:
            slot.rows = 3
        with pytest.raises(ValueError, match="shape"):
            producer.put(np.zeros((4, 3), "i4"))
        producer.put(np.zeros((10, 3), "i4"))
        assert consumer.get(0).rows is None


def test_variable_rows_need_an_axis(name):
    with pytest.raises(ValueError, match="variable_rows"):
        shmring.Ring.create(name, shape=(), dtype="i4", slots=2, variable_rows=True)


# ---- notes on dtypes, and other packages' types

NOTED = [
    np.dtype("f4", metadata={"unit": "V"}),
    np.dtype("S10", metadata={"h5py_encoding": "utf-8"}),
    np.dtype("i1", metadata={"enum": {"a": 1}}),
    np.dtype("<M8[ns]", metadata={"tz": "UTC"}),
    np.dtype([("x", np.dtype(">f4", metadata={"unit": "V"})), (("title", "y"), "u1")], align=True),
    np.dtype([("x", np.dtype("f4", metadata={"unit": "V"}), (2, 3))]),
    np.dtype(("(2,)u1", (3,))),
    np.dtype([("x", "(2,)u1", (3,))]),
]


@pytest.mark.parametrize("dtype", NOTED, ids=str)
def test_notes_on_a_dtype_are_left_out(make, dtype):
    ring = make(shape=(2,), dtype=dtype, meta=[("one", dtype)])
    with shmring.Ring.attach(ring.name) as other, ring.producer() as producer, other.consumer() as consumer:
        assert other.dtype == dtype.base or other.dtype == dtype.base.base
        assert other.meta_dtype == np.dtype([("one", dtype)])
        value = np.zeros((2,), dtype)
        producer.put(value)
        assert consumer.get(0).array.tobytes() == value.tobytes()


def foreign_types():
    """Types that other packages add to numpy; the first one comes with numpy itself."""
    from numpy._core._rational_tests import rational

    found = [pytest.param(np.dtype(rational), "u8", id="rational")]
    try:
        import ml_dtypes
    except ImportError:
        return found
    names = ("bfloat16", "float8_e5m2", "float8_e4m3fn", "int4", "uint4")
    return found + [
        pytest.param(np.dtype(getattr(ml_dtypes, name)), "u2" if name == "bfloat16" else "u1", id=name)
        for name in names
    ]


@pytest.mark.parametrize(("dtype", "plain"), foreign_types())
def test_another_packages_type_is_refused_with_advice_that_works(make, name, dtype, plain):
    module, kind = dtype.type.__module__, dtype.type.__name__
    for arguments in ({"dtype": dtype}, {"meta": dtype}, {"dtype": [("a", "u1"), ("b", dtype, (2,))]}):
        with pytest.raises(ValueError, match=rf'{kind}.*numpy.*"{plain}".*view\({module}.{kind}\)'):
            shmring.Ring.create(name, **({"shape": (4,), "dtype": "u1", "slots": 2} | arguments))
    assert not block_file(name).exists()
    ring = make(shape=(4,), dtype=plain)
    values = np.arange(4).astype(dtype)
    with ring.producer() as producer, ring.consumer() as consumer:
        producer.put(values.view(plain))
        assert np.array_equal(consumer.get(0).array.view(dtype), values)
