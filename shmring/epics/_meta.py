"""The meta of frames and the attributes of NTNDArrays: each field is the attribute of its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shmring.epics._ntndarray import Image

# Fields of the structure that are no attributes: meta can have them, too.
OWN = {"uniqueId": "i4", "timeStamp": "i8", "dataTimeStamp": "i8"}
CONSTANT = {"ColorMode", "BayerPattern"}  # these say what the array is
ONLY = "meta"  # the attribute of a meta that is a single value
MOST = (1 << 63) - 1  # p4p wraps larger attributes without a word


def meta_for(image: Image) -> np.dtype[Any]:
    """Return a meta dtype for such images: the id, the time when they were sent, and the numbers."""
    kinds = {bool: "?", int: "i8", float: "f8"}
    fields = [("uniqueId", OWN["uniqueId"]), ("timeStamp", OWN["timeStamp"])]
    for name, value in image.attributes.items():
        if type(value) in kinds and name and name not in OWN and name not in CONSTANT:
            fields.append((name, kinds[type(value)]))
    return np.dtype(fields)


def meta_of(image: Image, dtype: np.dtype[Any] | None) -> Any:
    """Return the meta of an image; zeros and empty text for attributes that it does not have."""
    if dtype is None:
        return None
    if dtype.names is None:
        return _field(image, ONLY, dtype)
    return {name: _field(image, name, dtype[name]) for name in dtype.names}


def _field(image: Image, name: str, dtype: np.dtype[Any]) -> Any:
    own = {"uniqueId": image.unique_id, "timeStamp": image.time_ns, "dataTimeStamp": image.data_time_ns}
    value = own.get(name, image.attributes.get(name))
    if value is None:
        return np.zeros((), dtype)[()]
    if dtype.kind == "U":
        return str(value)[: dtype.itemsize // 4]
    if dtype.kind == "S":
        return str(value).encode()[: dtype.itemsize]
    return value


def check_meta(dtype: np.dtype[Any] | None, name: str) -> None:
    """Raise unless attributes can have such values."""
    for field, kind in _fields(dtype).items():
        if kind.base.kind not in "biufSU" or kind.str[1:] in ("f2", "f16"):
            raise TypeError(f"ring {name!r} has a meta of {kind} ({field!r}), which no attribute can have")


def _fields(dtype: np.dtype[Any] | None) -> dict[str, np.dtype[Any]]:
    if dtype is None:
        return {}
    return {ONLY: dtype} if dtype.names is None else {name: dtype[name] for name in dtype.names}


def attributes_of(meta: Any, dtype: np.dtype[Any] | None) -> dict[str, Any]:
    """Return the attributes of a frame's meta."""
    fields = [name for name in _fields(dtype) if name not in OWN]
    values = {name: meta[name] if dtype is not None and dtype.names else meta for name in fields}
    return {name: _attribute(name, value) for name, value in values.items()}


def _attribute(name: str, value: Any) -> Any:
    plain = np.asarray(value)
    if plain.ndim and plain.dtype.kind == "U":  # p4p knows arrays of bytes, but none of str
        return plain.reshape(-1).tolist()
    if plain.ndim:
        return plain.astype(plain.dtype.newbyteorder("=")).reshape(-1)
    single = plain.item()
    if isinstance(single, bytes):
        return single.decode("utf-8", "replace")
    if isinstance(single, int) and single > MOST:
        raise ValueError(f"meta {name!r} is {single}; the attributes of an NTNDArray end at {MOST}")
    return single


def color_attributes(mode: int, attrs: Mapping[str, Any], patterns: tuple[str, ...]) -> dict[str, int]:
    """Return the attributes that say what the array is."""
    found = {"ColorMode": mode}
    if attrs.get("color") in patterns:
        found["BayerPattern"] = patterns.index(attrs["color"])
    return found
