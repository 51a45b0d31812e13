"""Frames as a table of words and numbers: whatever is neither a picture nor a signal."""

from __future__ import annotations

from typing import Any

import numpy as np

from shmring.view._wire import plain

__all__ = ["fields_of", "table_of"]

MOST_ROWS = 100
MOST_COLUMNS = 32


def fields_of(dtype: np.dtype[Any]) -> Any:
    """Return a dtype as JSON has it: its name, or a list of (name, dtype) of its fields."""
    return np.lib.format.dtype_to_descr(dtype)


def table_of(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return the header that shows the beginning of a frame: its columns, and rows of plain values."""
    names = array.dtype.names
    if names is not None:
        shown = names[:MOST_COLUMNS]
        rows = [[plain(row[name]) for name in shown] for row in array.reshape(-1)[:MOST_ROWS]]
        columns = list(shown)
        all_rows, all_columns = array.size, len(names)
    else:
        flat = array.reshape(-1, array.shape[-1]) if array.ndim > 1 and array.size else array.reshape(-1, 1)
        all_rows, all_columns = flat.shape
        flat = flat[:MOST_ROWS, :MOST_COLUMNS]
        rows = [[plain(value) for value in row] for row in flat]
        columns = [str(number) for number in range(flat.shape[1])] if array.ndim > 1 else ["value"]
    return {
        "kind": "table",
        "columns": columns,
        "rows": rows,
        "all_rows": all_rows,
        "all_columns": all_columns,
        "full": list(array.shape),
    }
