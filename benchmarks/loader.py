"""Loaders of training data: ``python -m benchmarks.loader``.

torch's DataLoader, RingLoader, and SPDL where it is installed: `iterate_in_subprocess`, one for each worker,
taken in turns, with a pool of segments as in SPDL's own benchmark of transports; its queue and its pool are
as deep as the other loaders prefetch.

Items of one size are arrays that are ready, so that transport is all there is to do. Pictures are real JPEG
files, decoded and scaled by Pillow in the workers, 16 to a batch. The trainer, with one thread, either passes
batches on or reads every element (`sum`); in both cases it checks the first element of each. Rounds are
interleaved: every loader once for each case, then again. Time runs from one batch, when everything is in
motion, to the last.
"""

import functools
import importlib.util
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from benchmarks.harness import alone
from benchmarks.harness.isolation import isolated
from benchmarks.harness.roles import now
from benchmarks.reporting.tables import aligned, spread
from shmring.torch import RingLoader

KIB, MIB = 1 << 10, 1 << 20
WORKERS = (1, 2)
PREFETCH = 2
BASE = "DataLoader"
WARM_UP = 8  # batches
PICTURES_IN_BATCH = 16
EDGE = 224  # pixels


class Ready(Dataset):
    """Arrays of so many bytes that are there already."""

    def __init__(self, nbytes: int, count: int):
        self.array = np.ones(nbytes // 4, "f4")
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        self.array[0] = index
        return self.array


class Pictures(Dataset):
    """Decoded pictures, 3 x 224 x 224; the first value is the index."""

    def __init__(self, folder: Path, count: int):
        self.files = sorted(folder.glob("*.jpg"))
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        from PIL import Image

        with Image.open(self.files[index % len(self.files)]) as file:
            picture = np.asarray(file.convert("RGB").resize((EDGE, EDGE)))
        sample = picture.transpose(2, 0, 1).astype("f4")
        sample[0, 0, 0] = index
        return sample


@dataclass(frozen=True)
class Case:
    """What is loaded: a dataset of a number of batches, and how many samples each has."""

    name: str
    dataset: Callable[[int], Dataset]
    batch_size: int
    nbytes: int  # of a batch
    batches: int


def ready(name: str, nbytes: int, batches: int) -> Case:
    return Case(name, functools.partial(Ready, nbytes), 1, nbytes, batches)


def pictures(folder: Path) -> Case:
    nbytes = PICTURES_IN_BATCH * 3 * EDGE * EDGE * 4
    return Case("JPEG files", functools.partial(Pictures, folder), PICTURES_IN_BATCH, nbytes, 12)


def cases(folder: Path) -> list[Case]:
    return [
        ready("64 KiB", 64 * KIB, 2000),
        ready("1 MiB", MIB, 1000),
        ready("32 MiB", 32 * MIB, 60),
        pictures(folder),
    ]


# ---- loaders


def load(kind: type, case: Case, workers: int, batches: int) -> Iterable[torch.Tensor]:
    """DataLoader or RingLoader."""
    return kind(
        case.dataset(batches * case.batch_size),
        case.batch_size,
        num_workers=workers,
        prefetch_factor=PREFETCH,
        multiprocessing_context="fork",
    )


class Source:
    """What an SPDL worker iterates over: the batches that are its turn."""

    def __init__(self, case: Case, worker: int, workers: int, batches: int):
        self.dataset = case.dataset(batches * case.batch_size)
        self.size, self.numbers = case.batch_size, range(worker, batches, workers)

    def __iter__(self) -> Iterator[torch.Tensor]:
        for number in self.numbers:
            samples = [self.dataset[number * self.size + index] for index in range(self.size)]
            if len(samples) == 1:
                yield torch.as_tensor(samples[0])[None]  # the pool copies it
            else:
                yield default_collate(samples)


def load_with_spdl(case: Case, workers: int, batches: int) -> Iterator[torch.Tensor]:
    from spdl.pipeline import SharedMemorySegmentPool, iterate_in_subprocess

    sources = [
        iter(
            iterate_in_subprocess(
                functools.partial(Source, case, worker, workers, batches),
                buffer_size=PREFETCH,
                mp_context="fork",
                arena=SharedMemorySegmentPool(case.nbytes + 4096, PREFETCH + 2),
            )
        )
        for worker in range(workers)
    ]
    for turn in itertools.cycle(sources):
        try:
            yield next(turn)
        except StopIteration:
            return


def loaders() -> dict[str, Callable[[Case, int, int], Iterable[torch.Tensor]]]:
    found = {
        BASE: functools.partial(load, DataLoader),
        "RingLoader": functools.partial(load, RingLoader),
    }
    if importlib.util.find_spec("spdl"):
        found["SPDL"] = load_with_spdl
    return found


# ---- measuring


def rate(name: str, case: Case, workers: int, batches: int, reads: bool) -> float:
    """Items per second."""
    torch.set_num_threads(1)
    began = count = 0
    for number, batch in enumerate(loaders()[name](case, workers, batches)):
        first = float(batch[0].flatten()[0])
        assert first == number * case.batch_size, (first, number)
        if reads:
            batch.sum()
        count = number + 1
        if count == WARM_UP:
            began = now()
    ended = now()
    if count != batches:
        raise RuntimeError(f"{count} of {batches} batches came")
    return (batches - WARM_UP) * case.batch_size / (ended - began) * 1e9


def run(rounds: int, scale: float) -> list[dict[str, Any]]:
    """All cases, interleaved."""
    rates: dict[tuple[str, int, bool, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder))
        for _ in range(rounds):
            for case, workers, reads in itertools.product(cases(Path(folder)), WORKERS, (False, True)):
                batches = WARM_UP + max(2, round(scale * case.batches))
                for name in loaders():
                    found = isolated(functools.partial(rate, name, case, workers, batches, reads), patience=4)
                    rates.setdefault((case.name, workers, reads, name), []).append(found)
    return [as_row(*key, values, rates[*key[:3], BASE]) for key, values in rates.items()]


def write_pictures(folder: Path) -> None:
    """JPEG files of the pictures that come with scikit-image."""
    import skimage
    from PIL import Image

    for file in sorted((Path(skimage.__file__).parent / "data").glob("*.*")):
        if file.suffix in (".png", ".jpg"):
            with Image.open(file) as picture:
                picture.convert("RGB").save(folder / f"{file.stem}.jpg", quality=90)


def as_row(
    item: str, workers: int, reads: bool, name: str, values: list[float], base: list[float]
) -> dict[str, Any]:
    ratios = [value / other for value, other in zip(values, base, strict=True)]
    row: dict[str, Any] = {"item": item, "workers": workers, "reads": reads, "loader": name, "values": values}
    for key, column in {"items": values, "ratio": ratios}.items():
        row[key] = {"median": statistics.median(column), "min": min(column), "max": max(column)}
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """The table to print."""
    head = ["item", "workers", "the trainer", "loader", "items/s", f"times {BASE}"]
    return "\n".join(aligned([head, *map(line_of, rows)], numbers=(1, 4, 5)))


def line_of(row: dict[str, Any]) -> list[str]:
    spreads = [spread(row[name]) for name in ("items", "ratio")]
    columns = [f"{middle} ({least} to {most})" for middle, least, most in spreads]
    what = "reads all" if row["reads"] else "passes on"
    return [row["item"], str(row["workers"]), what, row["loader"], *columns]


def main() -> None:
    alone.main(
        "loader",
        __doc__,
        lambda rounds, quick: run(rounds, 0.02 if quick else 1.0),
        table,
        rounds=9,
        packages=("torch", "spdl", "pillow", "scikit-image"),
    )


if __name__ == "__main__":
    main()
