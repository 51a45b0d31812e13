#!/usr/bin/env bash
# p4p: a number that does not fit the field that it is put into.
#
# Expected: an error, as numpy and struct raise for a Python int that is out of range.
# Seen: the value is cut to the low bits of the field, without a word: 300 in an unsigned byte becomes 44, 2**40 in
#   an int becomes 0, and -1 in an unsigned field its largest number. An attribute of an NTNDArray is always a
#   signed 64-bit integer, so 2**63 becomes negative there. A list of ints raises OverflowError, an array of numpy
#   is cut like a single value.
# Versions: p4p 4.3.0, numpy 2.4.6, CPython 3.11. Seen 2026-11-30:
#   ubyte 300: 44
#   int 2**40: 0
#   ulong -1: 18446744073709551615
#   uniqueId 2**31: -2147483648
#   attribute 2**63: -9223372036854775808
#   array of 300 in ubyte[]: 44
#   list of 300 in ubyte[]: OverflowError
# Hurts: counters, frame ids and stamps of 64 bits that Python publishes: wrong numbers on the control system's
#   screens and in archives, as soon as the numbers are large. Check the range before, or take float64.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check p4p==4.3.0 numpy==2.4.6
"$work/venv/bin/python" - <<'P'
import numpy as np
from p4p import Value
from p4p.nt import NTNDArray, NTScalar


def scalar(code, number):
    return NTScalar(code).wrap(number).value


def listed():
    try:
        return NTScalar("aB").wrap([300]).value[0]
    except OverflowError:
        return "OverflowError"


image = Value(NTNDArray().type, {"uniqueId": 2**31, "attribute": [{"name": "clock", "value": 2**63}]})
seen = {
    "ubyte 300": scalar("B", 300),
    "int 2**40": scalar("i", 2**40),
    "ulong -1": scalar("L", -1),
    "uniqueId 2**31": image.uniqueId,
    "attribute 2**63": image.attribute[0].value,
    "array of 300 in ubyte[]": int(scalar("aB", np.array([300]))[0]),
    "list of 300 in ubyte[]": listed(),
}
for what, value in seen.items():
    print(f"{what}: {value}")
expected = [44, 0, 2**64 - 1, -(2**31), -(2**63), 44, "OverflowError"]
raise SystemExit(list(seen.values()) != expected)
P
