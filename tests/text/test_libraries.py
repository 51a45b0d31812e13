"""The tables of docs/how-to/libraries.md: each row is true, where its library is installed."""

from __future__ import annotations

import ast
import builtins
import contextlib
import faulthandler
import importlib
import io
import re
import resource
import signal
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmring
from support.waiting import settle, wait_until

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "libraries.md"
FRAMES: dict[str, tuple[str, tuple[int, ...]]] = {
    "frame": ("f4", (160, 160)),  # more than 64 KiB: pyzmq copies what is smaller
    "batch": ("f4", (160, 160)),
    "signal": ("f4", (64,)),
    "square": ("f8", (8, 8)),
    "image": ("u1", (16, 64, 3)),
    "gray": ("u1", (16, 16)),
    "count": ("i4", (8, 8)),
    "big": (">u2", (8, 8)),
}
MODULES = {"np": "numpy", "Image": "PIL.Image", "iio": "imageio.v3"}  # the others have no short name
PRIVATE = re.compile(r"`(\w+\.private\(\))`")
SUBMODULES = [
    "dask.array",
    "jax.numpy",
    "scipy.fft",
    "scipy.linalg",
    "scipy.ndimage",
    "shmring.jax",
    "shmring.torch",
    "skimage.filters",
    "skimage.util",
    "torch.utils.data",
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("zarr_thread"),
    pytest.mark.filterwarnings("ignore"),
]  # libraries warn of read-only memory, of forks, of themselves


@pytest.fixture(scope="module", autouse=True)
def files_that_stay() -> None:
    """Files that libraries open once and never close: before the tests look what is left behind."""
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("onnxruntime")
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("zmq").Frame(bytes(1 << 17), copy=False)


# ---- what a call needs


def make_sockets(space: dict[str, Any], stack: contextlib.ExitStack) -> Any:
    zmq = pytest.importorskip("zmq")
    context = zmq.Context()
    stack.callback(context.destroy, linger=0)
    socket, space["peer"] = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    socket.bind("inproc://frames")
    space["peer"].connect("inproc://frames")
    return socket


def make_dataset(frame: shmring.Frame, stack: contextlib.ExitStack) -> Any:
    h5py = pytest.importorskip("h5py")
    file = stack.enter_context(h5py.File("memory", "w", driver="core", backing_store=False))
    return file.create_dataset("frames", (1, *frame.shape), frame.dtype)


def make_file(call: str) -> io.BytesIO:
    file = io.BytesIO()
    if call.startswith("soundfile.read"):
        soundfile = pytest.importorskip("soundfile")
        soundfile.write(file, np.zeros(64, "f4"), 48000, subtype="FLOAT", format="WAV")
        file.seek(0)
    return file


# name: what it is, from (call, space, stack)
THINGS: dict[str, Callable[[str, dict[str, Any], contextlib.ExitStack], Any]] = {
    "file": lambda call, space, stack: make_file(call),
    "socket": lambda call, space, stack: make_sockets(space, stack),
    "dataset": lambda call, space, stack: make_dataset(space.get("frame", space.get("big")), stack),
    "zarray": lambda call, space, stack: pytest.importorskip("zarr").zeros((2, 160, 160), dtype="f4"),
    "mask": lambda call, space, stack: np.ones((8, 8), bool),
    "zeros": lambda call, space, stack: np.zeros((160, 160), "f4"),
    "pixels": lambda call, space, stack: bytes(16 * 64 * 3),
    "packed": lambda call, space, stack: pytest.importorskip("numcodecs").Zstd().encode(bytes(256)),
    "deflated": lambda call, space, stack: zlib.compress(bytes(256)),
    "png": lambda call, space, stack: pytest.importorskip("imagecodecs").png_encode(np.zeros((16, 16), "u1")),
    "chunk": lambda call, space, stack: pytest.importorskip("blosc2").compress2(np.zeros(256, "u1")),
}

NEEDED = {"socket": "zmq", "dataset": "h5py", "zarray": "zarr", "packed": "numcodecs", "png": "imagecodecs"}
NEEDED |= {"chunk": "blosc2"}

# beginning of a call: what it wrote
WRITTEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "np.save": lambda space: np.load(space["file"]),
    "file.write": lambda space: space["file"].read(),
    "iio.imwrite": lambda space: space["iio"].imread(space["file"], extension=".png"),
    "tifffile.imwrite": lambda space: space["tifffile"].imread(space["file"]),
    "soundfile.write(file, signal": lambda space: space["soundfile"].read(space["file"], dtype="f4")[0],
    "soundfile.write(file, big": lambda space: space["soundfile"].read(space["file"], dtype="int16")[0],
    "dataset[0]": lambda space: space["dataset"][0],
    "zarray[0]": lambda space: space["zarray"][0],
    "socket.send": lambda space: space["peer"].recv(copy=False).buffer,
}


def names(call: str) -> set[str]:
    """What a call uses."""
    tree = ast.parse(call)
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    found -= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return found - set(dir(builtins))


def subject(call: str) -> str:
    (name,) = names(call) & set(FRAMES)
    return name


def import_modules(call: str) -> dict[str, Any]:
    """The modules that a call uses; skips the test if one is not installed."""
    found = {}
    for name in names(call) - set(FRAMES) - set(THINGS):
        found[name] = pytest.importorskip(MODULES.get(name, name))
    for name in names(call) & set(NEEDED):
        pytest.importorskip(NEEDED[name])
    for name in SUBMODULES:
        if name in call:
            pytest.importorskip(name, exc_type=ImportError)
    return found


def evaluate(call: str, space: dict[str, Any], stack: contextlib.ExitStack) -> Any:
    """The result of a call, or what it wrote."""
    for name in names(call) & set(THINGS):
        space[name] = THINGS[name](call, space, stack)
    run = eval if isinstance(ast.parse(call).body[0], ast.Expr) else exec
    result = run(call, space)
    for beginning, read in WRITTEN.items():
        if call.startswith(beginning):
            if "file" in space:
                space["file"].seek(0)
            result = read(space)
    return result


# ---- what comes of it


def content(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    numbers = np.random.default_rng(1).integers(1, 100, shape)
    return (numbers / 128 if dtype.kind == "f" else numbers).astype(dtype)


def values(result: Any) -> np.ndarray:
    """A private copy of what any library's object holds."""
    if isinstance(result, (bytes, memoryview)):
        return np.frombuffer(bytes(result), "u1")
    if not isinstance(result, np.ndarray):
        for method in ("to_ndarray", "to_numpy", "numpy", "compute"):
            if hasattr(result, method):
                return np.array(getattr(result, method)())
    return np.array(result)


def right(found: np.ndarray, expected: np.ndarray) -> bool:
    if found.itemsize == 1:
        return found.tobytes() == expected.tobytes()
    return found.size == expected.size and np.allclose(found.ravel(), expected.ravel(), atol=1e-4)


def take(consumer: shmring.Consumer, name: str) -> shmring.Frame | shmring.Batch:
    return consumer.batch(2, 2, timeout=5) if name == "batch" else consumer.get(timeout=5)


def publish(producer: shmring.Producer) -> np.ndarray:
    """Publish a frame; a view of its memory that stays writable, because it was made before."""
    with producer.claim() as slot:
        slot.array[...] = content(slot.array.shape, slot.array.dtype)
        return slot.array[...]


def error_names(error: BaseException) -> set[str]:
    kinds = type(error).__mro__
    return {kind.__name__ for kind in kinds} | {f"{kind.__module__}.{kind.__name__}" for kind in kinds}


def rows(heading: str, column: int) -> list[Any]:
    """Parameters from a table of the page: the call, and the cells after it."""
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    found = []
    for line in lines:
        call, *cells = [cell.strip() for cell in line.strip("|").split(" | ")][column:]
        found.append(pytest.param(call.strip("`"), *cells, id=call.strip("`")))
    return found


def look(make, call: str) -> tuple[set[str], str]:
    """What a call on a frame comes to, in the words of the page, and what becomes of the slot."""
    name = subject(call)
    space = import_modules(call)
    dtype, shape = FRAMES[name]
    ring = make(shape=shape, dtype=dtype)
    with ring.producer() as producer, ring.consumer() as consumer, contextlib.ExitStack() as stack:
        memory = [publish(producer) for _ in range(2)]
        space[name] = take(consumer, name)
        all_held = consumer.held
        expected = space[name].array.copy()
        try:
            result = evaluate(call, space, stack)
        except Exception as error:
            outcome, result = error_names(error), None
        else:
            found = values(result)
            memory[0][...] = 1
            outcome = {"copy" if np.array_equal(values(result), found) else "view"}
            if not right(found, expected):
                outcome = {"wrong values"}
        space.clear()
        slot = "free"
        if result is not None and consumer.held:
            assert consumer.held == all_held
            del result
            slot = "held until the next gc.collect()" if consumer.held else "held"
        stack.close()
        wait_until(lambda: settle() or consumer.held == 0, "the slot is free")
    return outcome, slot


@pytest.mark.parametrize(("call", "gets", "slot"), rows("What you get", 1))
def test_what_you_get(make, call, gets, slot):
    outcome, kept = look(make, call)
    assert outcome & set(gets.split(" or "))
    assert kept in slot.split(" or ") or (slot == "held until it has left" and kept != "free")


@pytest.mark.parametrize(("call", "what"), rows("Big-endian frames", 0))
def test_big_endian_frames(make, call, what):
    outcome, _ = look(make, call)
    assert (outcome <= {"copy", "view"}) if what == "right" else (what in outcome)


@pytest.mark.parametrize(("call", "what", "instead"), rows("Code that writes", 0))
def test_code_that_writes(make, fork, call, what, instead):
    name = subject(call)
    space = import_modules(call)
    dtype, shape = FRAMES[name]
    ring = make(shape=shape, dtype=dtype)

    def write(send) -> None:
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with shmring.Ring.attach(ring.name) as again, again.consumer() as consumer:
            frame = space[name] = consumer.get(timeout=5)
            before = frame.array.copy()
            try:
                evaluate(call, space, contextlib.ExitStack())
            except Exception as error:
                send(sorted(error_names(error)))
            else:
                send(["nothing" if np.array_equal(frame.array, before) else "changed"])

    with ring.producer() as producer:
        publish(producer)
        child = fork(write)
        if what == "SIGSEGV":
            assert child.wait() == -signal.SIGSEGV
        else:
            assert what in child.receive()


def private_instead() -> list[Any]:
    """The rows of which the page says that a private array is the way."""
    of_all = [row.values for row in rows("Code that writes", 0)]
    return [(call, found[1]) for call, _, instead in of_all if (found := PRIVATE.match(instead))]


@pytest.mark.parametrize(("call", "instead"), private_instead())
def test_private_arrays_are_for_code_that_writes(make, call, instead):
    name = subject(call)
    space = import_modules(call)
    dtype, shape = FRAMES[name]
    ring = make(shape=shape, dtype=dtype)
    with ring.producer() as producer, ring.consumer() as consumer, contextlib.ExitStack() as stack:
        publish(producer)
        frame = space[name] = consumer.get(timeout=5)
        before = frame.array.copy()
        evaluate(re.sub(rf"\b{name}(\.array)?\b", instead, call), space, stack)
        assert np.array_equal(frame.array, before)
        space.clear()
