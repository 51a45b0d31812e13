"""Index rows: what a batch says of each of its frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shmring import Batch


class IndexMaker:
    """Makes the index rows of batches that follow each other."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._next_seq: int | None = None
        self.lost = 0

    def make(self, batch: Batch) -> npt.NDArray[Any]:
        """Return one row for each frame."""
        rows = np.zeros(len(batch), self._dtype)
        rows["seq"], rows["timestamp_ns"] = batch.seqs, batch.timestamps_ns
        rows["lost"][1:] = np.diff(batch.seqs) - np.uint64(1)
        if self._next_seq is None:  # the batch's total less what was lost inside of it
            rows["lost"][0] = batch.lost - int(rows["lost"][1:].sum())
        else:
            rows["lost"][0] = int(batch.seqs[0]) - self._next_seq
        self._next_seq = int(batch.seqs[-1]) + 1
        self.lost += int(rows["lost"].sum())
        if batch.rows is not None:
            rows["rows"] = batch.rows
        if batch.metas is not None:
            rows["meta"] = batch.metas
        return rows
