"""Index rows: what a batch says of each of its frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shmring import Batch

ALL = slice(None)


class IndexMaker:
    """Makes the index rows of batches that follow each other."""

    first_lost: int | None = None
    """What was lost before the first frame, if that is not what its batch says."""

    def __init__(self, dtype: np.dtype[Any], next_seq: int | None = None) -> None:
        self._dtype = dtype
        self.next_seq = next_seq  # whatever is missing after it was lost; None: after the first frame
        self.lost = 0

    def make(self, batch: Batch, some: slice = ALL) -> npt.NDArray[Any]:
        """Return one row for each frame, or for each of some."""
        seqs = batch.seqs[some]
        rows = np.zeros(len(seqs), self._dtype)
        rows["seq"], rows["timestamp_ns"] = seqs, batch.timestamps_ns[some]
        rows["lost"][1:] = np.diff(seqs) - np.uint64(1)
        if self.next_seq is not None:
            rows["lost"][0] = int(seqs[0]) - self.next_seq
        elif self.first_lost is not None:
            rows["lost"][0] = self.first_lost
        else:  # the batch's total less what was lost inside of it
            rows["lost"][0] = batch.lost - int(rows["lost"][1:].sum())
        self.next_seq = int(seqs[-1]) + 1
        self.lost += int(rows["lost"].sum())
        if batch.rows is not None:
            rows["rows"] = batch.rows[some]
        if batch.metas is not None:
            # As bytes: numpy leaves out what is between the fields.
            octets = np.dtype((np.void, rows["meta"].dtype.itemsize))
            rows["meta"].view(octets)[...] = batch.metas[some].view(octets)
        return rows
