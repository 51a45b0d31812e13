"""Whatever is typed behind a command: one of the documented exit codes, one line, never a traceback."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import shmring
from shmring import _core, recording
from support.blocks import fresh_name

pytest.importorskip("click")

import click

from shmring._cli import COMMANDS, app
from shmring._cli.support import rates

pytestmark = pytest.mark.usefixtures("zarr_thread")

FRAMES = ("record", "replay", "capture", "read", "write")
PARSED_ONLY = ("bench", "demo", "doctor", "rm", "top", "view")  # they run long, or look at what others have
ENDLESS = ("--takeover", "--follow", "--listen")
NUMBERS = [
    "0", "-0", "1", "2", "17", "64", "-1", "1.5", "1e3", "nan", "-nan", "inf", "-inf", "1e308", "1e400",
    "5e-324", "1e-320", "9" * 18, "9" * 19, "9" * 400, "1" * 5000, "0x10", "1_000", "\u0663", "+1", " 1",
    "--1",
]  # fmt: skip
OTHERS = [
    "", " ", "-", "--", ".", "..", "/", "a/b", "\n", "\x1b[31m", "\u03a9", "\udc80", "x" * 70, "x" * 300,
    "()", "1,2", "1,0", "1,,2", ",", "2x2", ",".join(["1"] * 70), "1000000,1000000,1000000", "9" * 25 + ",2",
    "u1", "<i2", "S0", "V0", "O", "(2,3", "(2,3)f4", "u1,,f4", "f4:", "U99999999999", "(10000000000000,)f8",
    "M8[ns]", "float128", "[('a','f4')]", "{}", "i4\udc80", "500MB", "1TiB", "999999999999999TiB", "0B",
    "1 kB", "raw", "npy", "now", "drop", "oldest", ":99999", ":-1", "a:b", "[::1]:80", "1920x1080@30",
    "0x0@0", "1x1", "missing.npy", "take.npy", "no/take.npy", "take.dat", "take.zarr", "take.h5",
    "empty.npy", "junk.npy", "junk.zarr", "junk.h5", f"{'x' * 252}.npy", "\udc80.npy", "take.npy/x.npy",
    "array.sum() >", "1/0", "True", "(" * 500, "-" * 50_000 + "1", "exit", "bash",
]  # fmt: skip
LIKELY = {  # by metavar: what gets as far as the library
    "N": ["1", "2", "3", "16", "1000000", "9" * 18],
    "M": ["0", "1", "9" * 18],
    "K": ["1", "9" * 18],
    "S": ["0.001", "1", "1e308", "5e-324"],
    "FACTOR": ["1", "1e308", "5e-324"],
    "SIZE": ["1B", "1kB", "999999999999999TiB"],
    "N,N,...": ["()", "1", "3,2", "1000000,1000000,1000000", ",".join(["1"] * 70), "9" * 25 + ",2"],
    "DTYPE": ["u1", "f4", "S0", "V0", "O", "U5", "M8[ns]", "(2,3)f4", "u1,f4", "float128", "(100000,)f8"],
    "FORMAT": ["gray", "yuv420p", "p010", "yuv420q", "pal8"],
    "WxH": ["1x1", "2x1", "33x17", "999999x999999"],
    "TEXT": ["x", "", "x" * 63],
    "EXPRESSION": ["True", "array", "1/0", "seq / 0", "exit"],
    "NAME": ["RING", "RING", "NEW", "no-ring"],
    "FILE": ["take.npy", "empty.npy", "junk.npy", "take.h5", "take.zarr"],
}
WORDS = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from(OTHERS),
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=8),
)


def command_of(name: str) -> click.Command:
    found = app.app.get_command(click.Context(app.app), name)
    assert found is not None
    return found


def words_for(param: click.Parameter):
    if isinstance(param.type, click.Choice):
        return st.sampled_from(param.type.choices) | WORDS
    likely = LIKELY.get(param.metavar or "")
    return st.sampled_from(likely * 3) | st.sampled_from(likely) | WORDS if likely else WORDS


@st.composite
def command_lines(draw) -> list[str]:
    """A command with some of its options, and something for each of its arguments."""
    name = draw(st.sampled_from([*COMMANDS, *FRAMES, *FRAMES, *FRAMES]))
    line = [name]
    command = command_of(name)
    line += [draw(words_for(param)) for param in command.params if isinstance(param, click.Argument)]
    options = [param for param in command.params if isinstance(param, click.Option)]
    required = [param for param in options if param.required or param.name in ("shape", "dtype")]
    chosen = [param for param in options if param.opts[0] not in ENDLESS and draw(st.booleans())]
    for param in [*(required if draw(st.integers(0, 3)) else []), *chosen[:5]]:
        line.append(draw(st.sampled_from([*param.opts, *param.secondary_opts])))
        line += [] if param.is_flag else [draw(words_for(param))]
    if "--wait-for" in line:
        line += ["--timeout", "0"]
    return line


@pytest.fixture
def ring(make, monkeypatch, tmp_path):
    """A ring whose stream has ended; files of all kinds; and no command waits, or works on for long."""
    ring = make(shape=(2,), dtype="u1", slots=8)
    monkeypatch.chdir(tmp_path)
    with ring.producer() as out:
        recording.record(ring, "empty.npy", seconds=1e-9)
        out.put(np.zeros(2, "u1"))
    for junk in ("junk.npy", "junk.h5", "junk.zarr"):
        with open(junk, "wb") as file:
            file.write(b"junk" * 100)
    attach = shmring.Ring.attach

    def attach_at_once(name, *, timeout=0, **options):
        _core.check_timeout(timeout)
        return attach(name, timeout=0, **options)

    monkeypatch.setattr(shmring.Ring, "attach", attach_at_once)
    monkeypatch.setattr(rates.time, "sleep", lambda seconds: None)
    for name in PARSED_ONLY:
        monkeypatch.setattr(command_of(name), "callback", lambda **options: None)
    return ring


@pytest.mark.slow
@pytest.mark.parametrize("examples", [50, pytest.param(1000, marks=pytest.mark.stress)])
def test_no_traceback(ring, capsys, tmp_path, examples) -> None:
    names = {"RING": ring.name, "NEW": fresh_name()}

    @hypothesis.settings(max_examples=examples, deadline=None, database=None)
    @hypothesis.given(command_lines())
    def check(line: list[str]) -> None:
        capsys.readouterr()
        code = app.run([names.get(word, word) for word in line])
        noise = capsys.readouterr().err
        assert code in app.EXIT_CODES
        assert "Traceback" not in noise
        assert code in (0, 1) or noise.count("\n") == 1
        for file in tmp_path.glob("take*"):  # made by record
            if file.is_file():
                file.unlink()

    check()


@pytest.mark.parametrize("suffix", ["npy", "h5", "zarr"])
def test_junk_is_no_recording(ring, capsys, suffix) -> None:
    """Neither to replay nor to append to; and it is not overwritten by somebody who did not ask for it."""
    if suffix != "npy":
        pytest.importorskip({"h5": "h5py", "zarr": "zarr"}[suffix])
    file = f"junk.{suffix}"
    assert app.run(["replay", file, fresh_name()]) == 1
    assert app.run(["record", ring.name, file, "--append"]) in (1, 2)
    assert app.run(["record", ring.name, file]) == 2
    assert capsys.readouterr().err.count("\n") == 3
    with open(file, "rb") as junk:
        assert junk.read() == b"junk" * 100


@pytest.mark.parametrize("port", ["99999", "-1", "65536", "9" * 30])
def test_ports_that_do_not_exist(capsys, port) -> None:
    pytest.importorskip("prometheus_client")
    assert app.run(["metrics", "--listen", f"127.0.0.1:{port}"]) == 2
    assert "is not an address" in capsys.readouterr().err


def test_a_recording_without_frames_is_played_at_once(ring) -> None:
    """Forever, too: there is nothing to wait for."""
    assert app.run(["replay", "empty.npy", fresh_name(), "--forever"]) == 0


@pytest.mark.parametrize("error", [MemoryError(), OverflowError("too large"), ValueError("no such thing")])
def test_errors_of_python_are_one_line(monkeypatch, capsys, error) -> None:
    def fail(**options) -> None:
        raise error

    monkeypatch.setattr(command_of("completion"), "callback", fail)
    assert app.run(["completion", "bash"]) == 1
    noise = capsys.readouterr().err
    assert noise.startswith("shmring: ")
    assert noise.count("\n") == 1
    assert (str(error) or "not enough memory") in noise
