"""Metas: one value for one frame, a sequence for several, and nothing changes on the way into the ring."""

import datetime as dt

import numpy as np
import pytest

from support.frames import feed, fill, payload

XY = [("x", "f8"), ("y", "f8")]
NESTED = [("table", "u1", (3,)), ("inner", [("a", "i4"), ("b", "S2")])]
PAIRS = [("pairs", [("a", "i4")], (2,))]
GAPS = {"names": ["a", "b"], "formats": ["u1", "f8"], "offsets": [3, 8], "itemsize": 24}
ORDERS = [("a", ">i4"), ("b", "<f8"), ("c", "?")]


def put_one(ring, producer, value):
    producer.put(payload(producer.next_seq), meta=value)


def put_many(ring, producer, value):
    producer.put_many(payload(producer.next_seq)[None], metas=[value])


def claim_one(ring, producer, value):
    with producer.claim() as slot:
        fill(slot)
        slot.meta = value


def claim_many(ring, producer, value):
    """What a claim of several gives while only one slot is free."""
    with ring.consumer() as gate:
        feed(producer, ring.slots - 1)
        with producer.claim(3) as slot:
            assert slot.count == 1
            fill(slot)
            slot.meta = [value]
            assert len(slot.meta) == 1
        gate.close()


@pytest.fixture(params=[put_one, put_many, claim_one, claim_many], ids=lambda put: put.__name__)
def give(request):
    """Every way by which the meta of exactly one frame comes into a ring."""
    return request.param


GOOD = [
    (XY, (1.0, 2.0), (1.0, 2.0)),
    (XY, [1.0, 2.0], (1.0, 2.0)),
    (XY, {"y": 2, "x": 1}, (1.0, 2.0)),
    (XY, np.array((1, 2), XY), (1.0, 2.0)),
    (XY, np.array((1, 2), XY)[()], (1.0, 2.0)),
    (XY, np.array((2, 1), [("y", "i4"), ("x", "u1")])[()], (1.0, 2.0)),
    ([("only", "i4")], (5,), (5,)),
    ("i4", 5, 5),
    ("i4", 5.0, 5),
    ("i4", np.array(5), 5),
    ("f4", 0.1, float(np.float32(0.1))),
    ("f4", float("inf"), float("inf")),
    ("c8", 1 + 2j, 1 + 2j),
    ("?", True, True),
    ("?", 1, True),
    ("i2", True, 1),
    ("u8", (1 << 64) - 1, (1 << 64) - 1),
    ("f8", 1 << 53, float(1 << 53)),
    ("f2", 0.1, float(np.float16(0.1))),
    (">f4", -2.5, -2.5),
    (">i8", 5.0, 5),
    (GAPS, (255, 2), (255, 2.0)),
    (GAPS, {"b": 0.5, "a": True}, (1, 0.5)),
    (ORDERS, (1, 2.5, False), (1, 2.5, False)),
    ("S4", b"ab\0", b"ab"),
    ("S4", "ab", b"ab"),
    ("U4", "né", "né"),
    ("V2", b"ab", b"ab"),
    ("M8[us]", dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1)),
    ("M8[s]", "2020-01-01", dt.datetime(2020, 1, 1)),
    ("m8[ns]", 7, 7),
    (PAIRS, ([(1,), {"a": 2}],), None),
    (NESTED, (np.arange(3), {"a": 1, "b": b"z"}), None),
]


@pytest.mark.parametrize(("dtype", "value", "expected"), GOOD, ids=str)
def test_a_meta_that_fits_comes_out_as_it_went_in(make, give, dtype, value, expected):
    ring = make(meta=dtype)
    with ring.producer() as producer, ring.consumer(lossless=False) as consumer:
        give(ring, producer, value)
        meta = consumer.latest(0).meta
        if expected is not None:
            assert (bytes(meta) if dtype == "V2" else meta.item()) == expected
        elif dtype is PAIRS:
            assert meta["pairs"]["a"].tolist() == [1, 2]
        else:
            assert meta["table"].tolist() == [0, 1, 2]
            assert meta["inner"].item() == (1, b"z")


BAD = [
    (XY, 5, "fields x, y: give a tuple or a dict"),
    (XY, np.float64(5), "fields x, y"),
    (XY, "ab", "fields x, y"),
    (XY, (1.0,), "2 fields .* 1 value given"),
    (XY, {"x": 1}, "missing: y"),
    (XY, {"x": 1, "y": 2, "z": 3}, "unknown: z"),
    (XY, np.array((1, 2), [("x", "f8"), ("b", "f8")])[()], "missing: y; unknown: b"),
    (XY, np.zeros(2, XY), "shape|fields x, y"),
    ("u1", 300, r"300\]? does not fit uint8"),
    ("u1", np.int64(300), "300"),
    ("u8", np.int64(-1), "-1"),
    ("i8", 1 << 70, "does not fit int64"),
    ("i8", 2.0**63, "does not fit int64"),
    ("i4", 2.5, r"2.5\]? does not fit int32, it would become \[?2"),
    ("i4", float("nan"), "nan"),
    ("i4", "5", "does not fit"),
    ("i4", [5], "shape"),
    ("f4", 1e300, "inf"),
    ("f8", (1 << 53) + 1, "would become"),
    ("f8", 1j, "does not fit"),
    ("f8", np.ma.array(3.0, mask=True), "mask"),
    ("f2", 1e5, "inf"),
    (">u2", 1 << 16, "does not fit"),
    ("?", 5, "does not fit"),
    (GAPS, (256, 0.5), "field 'a'"),
    (GAPS, (1, (1 << 53) + 1), "field 'b'"),
    (GAPS, (0.5, 1), "field 'a'"),
    (GAPS, {"a": 1, "c": 2}, "missing: b; unknown: c"),
    (ORDERS, (1, 2.5, 2), "field 'c'"),
    ("S2", b"abc", r"would become \[?b'ab'"),
    ("S4", "né", "does not fit"),
    ("S4", 5, "does not fit"),
    ("U2", "abc", r"would become \[?'ab'"),
    ("V2", b"abc", "does not fit"),
    ("M8[s]", dt.datetime(2020, 1, 1, microsecond=5), "does not fit"),
    ("m8[s]", 2.5, "does not fit"),
    ("i8", np.timedelta64(1, "s"), "does not fit"),
    (NESTED, (5, (1, b"z")), "'table' has shape"),
    (NESTED, ([1, 2, 300], (1, b"z")), "'table'"),
    (NESTED, ([1, 2, 3], (1, b"zzz")), "'inner' field 'b'"),
    (PAIRS, ([(1,)],), "pairs"),
]


@pytest.mark.parametrize(("dtype", "value", "words"), BAD, ids=str)
def test_a_meta_that_would_change_is_refused(make, give, dtype, value, words):
    ring = make(meta=dtype)
    with ring.producer() as producer, pytest.raises(ValueError, match=words):
        give(ring, producer, value)


@pytest.mark.parametrize("give_a_value", [tuple, lambda value: dict(zip("ab", value, strict=True))])
def test_gaps_between_fields_are_zeros(make, give, give_a_value):
    ring = make(meta=GAPS)
    with ring.producer() as producer, ring.consumer(lossless=False) as consumer:
        give(ring, producer, give_a_value((255, 2.0)))
        assert consumer.latest(0).meta.tobytes() == b"\0\0\0\xff\0\0\0\0" + np.float64(2).tobytes() + bytes(8)


@pytest.mark.parametrize("dtype", ["f4", "f8", [("a", "f4")]], ids=str)
def test_a_meta_may_be_nan(make, give, dtype):
    ring = make(meta=dtype)
    with ring.producer() as producer, ring.consumer(lossless=False) as consumer:
        give(ring, producer, (np.nan,) if isinstance(dtype, list) else np.nan)
        assert np.isnan(np.array(consumer.latest(0).meta.item())).all()


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["f8", XY], ids=str)
def test_metas_are_a_sequence_of_as_many_values_as_frames(make, dtype, count):
    ring = make(meta=dtype)
    value = 1.5 if dtype == "f8" else (1.5, 2.5)
    frames = np.stack([payload(seq) for seq in range(count)])
    with ring.producer() as producer, ring.consumer() as consumer:
        for metas in ([value] * count, (value,) * count, np.array([value] * count, dtype)):
            assert producer.put_many(frames, metas=metas) == count
            assert consumer.batch(count, count, 0).metas.tolist() == [value] * count
        for wrong in ([value] * (count + 1), [], np.zeros((count, 1, 1), dtype)):
            with pytest.raises(ValueError, match="meta"):
                producer.put_many(frames, metas=wrong)
        for wrong in (value if dtype == "f8" else {"x": 1, "y": 2}, "abc"[:count], iter([value]), {1, 2}):
            with pytest.raises(TypeError, match="sequence with a value for each frame"):
                producer.put_many(frames, metas=wrong)
        with pytest.raises(ValueError, match="mask"):
            producer.put_many(frames, metas=np.ma.array(np.zeros(count, dtype)))
        assert consumer.try_get() is None


def test_a_refused_meta_leaves_the_claim_open(make):
    ring = make(meta="u1")
    with ring.producer() as producer, ring.consumer() as consumer:
        with producer.claim() as slot:
            fill(slot)
            with pytest.raises(ValueError, match="300"):
                slot.meta = 300
            assert slot.meta is None
            slot.meta = 200
        assert consumer.get(0).meta == 200


def test_a_ring_without_meta_says_how_to_get_one(ring):
    with ring.producer() as producer, pytest.raises(ValueError, match="create it with meta="):
        producer.put_many(payload(0)[None], metas=[1])
