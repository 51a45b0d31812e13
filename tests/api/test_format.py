"""FrameFormat: which frames are the same, and how a difference is worded, wherever it matters."""

import json

import numpy as np
import pytest

import shmring
from shmring._format import FrameFormat, check_format, format_of, parse_format

PLAIN = FrameFormat((2, 3), np.dtype("<f4"))
PADDED = np.dtype({"names": ["a", "b"], "formats": ["i1", "i4"], "offsets": [0, 4], "itemsize": 8})
PACKED = np.dtype([("a", "i1"), ("b", "i4")])
TWO = "shape (2, 3), not (2,); meta None, not uint8"
TITLED = np.dtype([(("a title", "a"), "i1"), ("b", "i4")])


def with_dtype(dtype) -> FrameFormat:
    return FrameFormat((2, 3), np.dtype(dtype))


def with_meta(meta) -> FrameFormat:
    return FrameFormat((2, 3), np.dtype("<f4"), None if meta is None else np.dtype(meta))


@pytest.mark.parametrize(
    ("found", "wanted", "words"),
    [
        (PLAIN, FrameFormat((3, 2), np.dtype("<f4")), "shape (2, 3), not (3, 2)"),
        (PLAIN, with_dtype("<f8"), "dtype float32, not float64"),
        (PLAIN, with_dtype(">f4"), "dtype float32, not >f4"),
        (with_meta("f8"), PLAIN, "meta float64, not None"),  # equal to numpy
        (PLAIN, with_meta("f8"), "meta None, not float64"),
        (PLAIN, FrameFormat((2, 3), np.dtype("<f4"), None, True), "variable_rows False, not True"),
        (with_dtype(PADDED), with_dtype(PACKED), f"dtype {PADDED}, not {PACKED}"),
        (with_dtype(TITLED), with_dtype(PACKED), f"dtype {TITLED}, not {PACKED}"),
        (with_dtype("M8[s]"), with_dtype("M8[ms]"), "dtype datetime64[s], not datetime64[ms]"),
        (PLAIN, FrameFormat((2,), np.dtype("<f4"), np.dtype("u1")), TWO),
    ],
    ids=["shape", "dtype", "byte order", "no meta", "a meta", "rows", "padding", "titles", "unit", "two"],
)  # fmt: skip
def test_a_difference_is_named(found, wanted, words):
    assert found.difference(wanted) == words
    assert found != wanted


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (PLAIN, with_dtype("<f4")),
        (with_dtype(PADDED), with_dtype(np.dtype([("a", "i1"), ("b", "i4")], align=True))),
        (with_dtype("i4"), with_dtype(np.dtype("i4", metadata={"note": 1}))),
        (with_meta(None), with_meta(None)),
    ],
    ids=["plain", "aligned", "metadata", "no meta"],
)
def test_bytes_that_mean_the_same_are_the_same(one, other):
    assert one.difference(other) is None
    assert one == other


@pytest.mark.parametrize(
    "dtype", ["<f4", ">u2", "S5", "U3", "V6", "?", "c16", "M8[25s]", PADDED, PACKED, TITLED]
)
@pytest.mark.parametrize("meta", [None, "f8", PADDED], ids=str)
def test_what_is_described_is_read_back(dtype, meta):
    asked = check_format((4, 1), dtype, meta, True)
    assert parse_format(json.loads(json.dumps(asked.described())), True) == asked


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "'|O'"},
        {"dtype": "('<f4', (2,))"},
        {"meta": "'|O'"},
        {"meta": "('<f4', (2,))"},
        {"shape": [0]},
        {"shape": [True]},
        {"shape": [2.0]},
        {"shape": [1] * 32},
        {"shape": [1 << 41]},
        {"shape": []},
    ],
    ids=str,
)
def test_frames_that_no_ring_can_have_are_not_read(change):
    with pytest.raises(ValueError, match=r"impossible|first axis"):
        parse_format(FrameFormat((2,), np.dtype("f4")).described() | change, True)


def test_a_format_has_its_sizes():
    found = check_format((3, 5), "(2,)u2", "i8", True)
    assert (found.shape, found.dtype) == ((3, 5, 2), np.dtype("u2"))
    assert (found.frame_bytes, found.row_bytes, found.meta_bytes) == (60, 20, 8)
    assert str(found) == "shape (3, 5, 2) dtype uint16 meta int64 variable_rows"


def test_a_ring_without_meta_is_not_one_with_f8(name):
    frames = {"shape": (2,), "dtype": "u1", "slots": 2}
    with shmring.Ring.create(name, **frames) as ring:
        assert format_of(ring) == FrameFormat((2,), np.dtype("u1"))
        with pytest.raises(shmring.RingIncompatible, match=r"other frames \(meta None, not float64\)"):
            shmring.Ring.create(name, meta="f8", exist_ok=True, **frames)
