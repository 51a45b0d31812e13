"""The checks of this project, one session each: nox -l lists them, nox -s NAME runs one."""

import os
import re
import tarfile
import tempfile
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.sessions = ["lint", "types", "docs", "package"]
nox.options.error_on_missing_interpreters = False

TREE = Path(__file__).parent
PYPROJECT = nox.project.load_toml(TREE / "pyproject.toml")
PROJECT = PYPROJECT["project"]
PYTHONS = ["3.11", "3.12", "3.13", "3.14", "3.15"]
QUICK = "not slow and not stress and not model and not sanitizer"
C_FOLDERS = ["shmring/include", "src", "tests", "examples", "benchmarks"]
C_SOURCES = [
    str(path)
    for folder in C_FOLDERS
    for path in sorted((TREE / folder).rglob("*.[ch]"))
    if path.name != "_core.c"  # made by Cython
]


def install(session: nox.Session, *names: str, extra: str = "dev") -> None:
    """Install requirements of an extra, without the package itself: all of them or the named ones."""
    wanted = PROJECT["optional-dependencies"][extra]
    session.install(*[line for line in wanted if not names or line.startswith(names)])


def install_package(session: nox.Session, extras: str, *others: str) -> None:
    """Install the package with extras: the wheel that SHMRING_WHEEL names, or as built from this tree.

    Two sessions that build at the same time would use the same folder.
    """
    session.install(f"{os.environ.get('SHMRING_WHEEL') or '.'}[{extras}]", *others)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and common mistakes of Python, Cython and C."""
    install(session, "ruff", "cython-lint", "clang-format")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("cython-lint", "src")
    session.run("clang-format", "--dry-run", "--Werror", *C_SOURCES)


@nox.session(default=False)
def format(session: nox.Session) -> None:
    """Put the sources into the form that lint asks for."""
    install(session, "ruff", "clang-format")
    session.run("ruff", "check", "--fix")
    session.run("ruff", "format")
    session.run("clang-format", "-i", *C_SOURCES)


@nox.session
def types(session: nox.Session) -> None:
    """Type checkers on the package and its examples; the stubs against the built module."""
    session.install("-e", ".[cli,test]")
    install(session, "mypy", "pyright")
    session.run("mypy")
    session.run("stubtest", "shmring._core")
    session.run("pyright")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation; a warning is an error."""
    session.install("-e", ".[docs]")
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", "build/docs")


@nox.session(venv_backend="none", default=False)
def quick(session: nox.Session) -> None:
    """The tests that are quick, in the environment that is there: half a minute, for in between."""
    session.run("pytest", "-m", QUICK, *session.posargs, external=True)


@nox.session(python=PYTHONS)
def package(session: nox.Session) -> None:
    """Build the sdist, the wheel from it, and test the installed wheel from outside the tree."""
    outside = Path(session.create_tmp()).resolve()
    dist = outside / f"dist-{session.python}"
    install(session, "build", "auditwheel")
    session.run("python", "-m", "build", "--outdir", str(dist), ".")
    (sdist,) = dist.glob("*.tar.gz")
    (wheel,) = dist.glob("*.whl")
    check_sdist(session, sdist)
    check_wheel(session, wheel)
    session.install("--force-reinstall", "--no-deps", str(wheel))
    session.install(f"{wheel}[cli,test]")
    few = test_files("text/test_package", "api/test_ring", "processes/test_start_methods")
    shares = {  # the README's command runs all of them on the first one
        "3.11": few,
        "3.13": [],
    }
    test_installed(session, shares.get(session.python, ["-m", QUICK, str(TREE / "tests")]))


def test_files(*names: str) -> list[str]:
    return [str(TREE / "tests" / f"{name}.py") for name in names]


def test_installed(session: nox.Session, tests: list[str], **environment: str) -> None:
    """Run tests of the tree, by default all, against the package that the session installed."""
    session.chdir(session.create_tmp())
    where = session.run(
        "python", "-c", "import shmring; print(shmring.__file__)", env=environment, silent=True
    )
    if not where or Path(where.strip()).is_relative_to(TREE / "shmring"):
        session.error(f"the tests would import {where}, not the installed package")
    arguments = ["-c", str(TREE / "pyproject.toml"), "-p", "no:cacheprovider"]
    session.run("pytest", *arguments, *(session.posargs or tests or [str(TREE / "tests")]), env=environment)


def check_sdist(session: nox.Session, path: Path) -> None:
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = [source for kind in ("p[xy][dix]", "h") for source in (TREE / "src").glob(f"*.{kind}")]
    wanted = {f"src/{source.name}" for source in sources} | package_files()
    wanted |= {
        "LICENSE",
        "README.md",
        "noxfile.py",
        ".ci/run",
        "docs/protocol.md",
        "tests/provers/c/Makefile",
    }
    expect(session, path, missing=wanted - names, surplus={n for n in names if built(n)})


def check_wheel(session: nox.Session, path: Path) -> None:
    names = set(zipfile.ZipFile(path).namelist())
    info = f"{PROJECT['name']}-{PROJECT['version']}.dist-info/"
    core = {n for n in names if n.startswith("shmring/_core.") and n.endswith(".so")}
    if len(core) != 1:
        session.error(f"{path.name} has these extension modules: {sorted(core)}")
    wanted = package_files() | {info + "licenses/LICENSE", info + "METADATA", info + "entry_points.txt"}
    surplus = {n for n in names - wanted - core if not n.startswith(info)}
    expect(session, path, missing=wanted - names, surplus=surplus)
    said = session.run("auditwheel", "show", str(path), silent=True)
    if not said or not re.search(r'"(many|musl)linux_\d+_\d+_', said):
        session.error(f"auditwheel said of {path.name}: {said}")


def package_files() -> set[str]:
    """Every file of the package's folder that users need."""
    patterns = ("*.py", "*.pyi", "py.typed", "*.h", "static/*")
    files = {path for pattern in patterns for path in (TREE / "shmring").rglob(pattern)}
    return {path.relative_to(TREE).as_posix() for path in files}


def built(name: str) -> bool:
    return name.endswith((".so", ".o", ".pyc")) or (name.startswith("src/") and name.endswith(".c"))


def expect(session: nox.Session, path: Path, *, missing: set[str], surplus: set[str]) -> None:
    if missing or surplus:
        session.error(f"{path.name} lacks {sorted(missing)} and should not have {sorted(surplus)}")


@nox.session(python="3.10")
def floor(session: nox.Session) -> None:
    """A Python that is too old is refused with a clear message."""
    said = session.run("python", "-m", "pip", "install", "--no-deps", ".", success_codes=[1], silent=True)
    if not said or "requires a different Python: 3.10" not in said:
        session.error(f"pip under 3.10 said: {said}")
    session.log("pip refused: " + next(line for line in said.splitlines() if "different Python" in line))


@nox.session(default=False, python=PYTHONS[0])
def floors(session: nox.Session) -> None:
    """The tests against the oldest versions that pyproject.toml admits, of what builds, runs and tests."""
    wanted = [*PYPROJECT["build-system"]["requires"], *PROJECT["dependencies"]]
    for extra in ("cli", "video", "zarr", "hdf5", "codecs", "test"):
        wanted += PROJECT["optional-dependencies"][extra]
    lowest = {line.partition(";")[0].replace(">=", "==") for line in wanted if "shmring[" not in line}
    session.install(*sorted(lowest))
    session.install("--no-deps", "--no-build-isolation", ".")
    test_installed(session, [])


SID_MIRROR = "http://deb.debian.org/debian"
SID_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
SID_PACKAGES = ["ca-certificates", "ffmpeg", "g++", "gcc", "git", "libc6-dev", "make", "procps"]
# What a folder of another system needs of this one, and a /dev/shm of its own. The shell stays as process 1,
# which inherits orphans: tests would take them for children that they have left behind.
SID_ROOM = """
set -e
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -t tmpfs -o mode=1777 tmpfs "$1/dev/shm"
mount --bind /etc/resolv.conf "$1/etc/resolv.conf"
chroot "$@" || exit
"""


@nox.session(venv_backend="none", default=False)
def sid(session: nox.Session) -> None:
    """The README's commands under the newest Pythons, those of Debian sid, as root: `-- 3.15` for one."""
    folder, pythons = TREE / "build" / "sid", session.posargs or PYTHONS[-2:]

    def within(command: str) -> None:
        room = ["unshare", "--mount", "--pid", "--fork", "bash", "-c", SID_ROOM, "room", str(folder)]
        session.run(*room, "bash", "-euo", "pipefail", "-c", command, external=True)

    if not folder.exists() or (folder / "debootstrap").exists():  # its own folder, until it is done
        session.run("debootstrap", "--variant=minbase", "sid", str(folder), SID_MIRROR, external=True)
    packages = [f"python{version}{part}" for version in pythons for part in ("", "-dev", "-venv")]
    update = "apt-get update -qq -o Acquire::Check-Valid-Until=false"  # a mirror may lag behind
    install = "DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends"
    within(f"{update} && {install} {' '.join(SID_PACKAGES + packages)}")
    # This machine may trust a proxy that Debian does not know.
    session.run("cp", SID_CERTIFICATES, f"{folder}{SID_CERTIFICATES}", external=True)
    session.run("rm", "-rf", str(folder / "srv/shmring"), external=True)
    session.run("git", "clone", "-q", str(TREE), str(folder / "srv/shmring"), external=True)
    for version in pythons:
        enter = f"cd /srv/shmring && rm -rf .venv && python{version} -m venv .venv && . .venv/bin/activate"
        within("\n".join([enter, readme_command("run"), readme_command("test")]))


def readme_command(marker: str) -> str:
    """Return the block of README.md right under <!-- ci: MARKER -->."""
    block = rf"<!-- ci: {marker} -->\n```bash\n(.*?)\n```"
    found = re.search(block, (TREE / "README.md").read_text(), re.DOTALL)
    assert found, f"README.md has no block for {marker}"
    return found[1]


@nox.session(venv_backend="none")
def sanitize(session: nox.Session) -> None:
    """The C programs under the address, undefined-behaviour and thread sanitizers."""
    session.run("make", "-C", "tests/provers/c", "sanitize", external=True)


@nox.session(default=False)
def sanitize_core(session: nox.Session) -> None:
    """The tests against an extension module built with the address and undefined-behaviour sanitizers."""
    test_sanitized(session, [])


def test_sanitized(session: nox.Session, tests: list[str]) -> None:
    session.install(".[cli,test]", env={"SANITIZE": "address,undefined"})
    libraries = [
        session.run("gcc", f"-print-file-name=lib{name}.so", external=True, silent=True)
        for name in ("asan", "ubsan")
    ]
    settings = {
        "LD_PRELOAD": " ".join(str(path).strip() for path in libraries),
        "ASAN_OPTIONS": "detect_leaks=0:handle_segv=0",  # Python leaks at exit; a test provokes SIGSEGV
        "PYTHONMALLOC": "malloc",  # so that every object is watched
    }
    test_installed(session, tests, **settings)


# Long tests that are sessions of their own, which show more of what they do.
ELSEWHERE = [
    "programs/test_c.py::test_under_sanitizers",
    "programs/test_faults.py::test_all_faults",
    "programs/test_faults.py::test_soak",
    "programs/test_model.py::test_the_short_form",
    "programs/test_other_software.py::test_cpython_multiprocessing_while_rings_are_alive",
    "programs/test_other_software.py::test_cpython_shared_memory_while_rings_are_alive",
    "programs/test_other_software.py::test_numpys_checks_of_saving_and_of_buffers",
]


@nox.session(default=False)
def long(session: nox.Session) -> None:
    """The tests that pytest leaves out by default, but for those that are other sessions."""
    session.install(".[test]")
    tests = [f"--deselect=tests/{name}" for name in ELSEWHERE]
    marks = ["-m", "stress or model or sanitizer", "--durations=15"]
    session.run("pytest", "-p", "no:cacheprovider", *marks, *tests, *session.posargs)


@nox.session(default=False)
def outside(session: nox.Session) -> None:
    """Programs of others on rings: CPython's own tests in a process with rings alive, numpy's on frames."""
    session.install(".[test]")
    tests = ["-m", "", "--durations=5", *test_files("programs/test_other_software")]
    test_installed(session, tests) if session.virtualenv.is_sandboxed else session.run("pytest", *tests)


@nox.session(default=False)
def ray(session: nox.Session) -> None:
    """Rings on a Ray cluster of three nodes on this machine, real kills and the example included."""
    install_package(session, "cli,test,ray", "ml_dtypes", "pandas", "pyarrow")
    # Ray's workers refuse a folder for temporary files that is part of a virtual environment, as nox has it.
    outside = {"TMPDIR": tempfile.gettempdir()}
    test_installed(session, ["--durations=5", str(TREE / "tests" / "cluster")], **outside)


@nox.session(default=False)
def frameworks(session: nox.Session) -> None:
    """Rings in PyTorch, JAX and Jupyter: their tests, and the pages that show them."""
    # The version that the page of libraries names; newer ones may come with gigabytes of CUDA.
    install_package(session, "test,torch,jax,jupyter", "torch==2.13.*", *NOTEBOOKS)
    folders = [str(TREE / "tests" / name) for name in ("frameworks", "notebook")]
    test_installed(session, [*folders, *test_files("text/test_libraries", "text/test_docs")])


LAB = ["jupyterlab>=4.2", "playwright>=1.49"]  # with Debian's Chromium
NOTEBOOKS = ["nbclient>=0.10", "ipykernel>=6.29", "pillow>=10"]  # what runs them, and reads their pictures


@nox.session(default=False)
def notebook(session: nox.Session) -> None:
    """Notebooks alone: the live view, cells that a kernel runs, and pixels in JupyterLab in Chromium."""
    install_package(session, "jupyter", *NOTEBOOKS, *LAB)
    install(session, "pytest", "hypothesis", extra="test")
    test_installed(session, [str(TREE / "tests" / "notebook")])


@nox.session(default=False)
def formats(session: nox.Session) -> None:
    """Compressed recordings, and formats of others: read again by other programs."""
    # Pillow and tensorstore read what tifffile and zarr, the libraries of ome-writers, have written.
    install_package(session, "test,codecs,ome,mcap", "sigmf>=1.14", "pillow>=10", "tensorstore>=0.1.70")
    (codec, pages) = test_files("recording/test_codec", "text/test_docs")
    page = f"{pages}::test_sessions[docs/how-to/other-programs.md]"
    every = ["-m", ""]  # hdf5plugin is here alone
    test_installed(session, [*every, str(TREE / "tests" / "formats"), codec, page])


@nox.session(default=False)
def science(session: nox.Session) -> None:
    """Rings in EPICS, Bluesky and Micro-Manager: their tests, and the pages that show them."""
    install_package(session, "epics,bluesky,pymmcore", "mm-test-adapters")
    install(session, "pytest", extra="test")
    loopback = {
        "EPICS_PVA_ADDR_LIST": "127.0.0.1",
        "EPICS_PVA_AUTO_ADDR_LIST": "NO",
        "EPICS_PVA_BROADCAST_PORT": "15076",
        "EPICS_PVAS_INTF_ADDR_LIST": "127.0.0.1",
        "EPICS_PVAS_BROADCAST_PORT": "15076",
        "EPICS_PVAS_SERVER_PORT": "0",
    }
    pages = [*test_files("text/test_docs"), "-k", "epics or bluesky or pymmcore or micro"]
    test_installed(session, [str(TREE / "tests" / "science"), *pages], **loopback)


@nox.session(default=False)
def tiled(session: nox.Session) -> None:
    """A run of Bluesky, read back by Tiled, which is 1 GB to install."""
    install_package(session, "bluesky", "tiled[server]")
    install(session, "pytest", extra="test")
    test_installed(session, [*test_files("science/test_bluesky"), "-k", "tiled"])


@nox.session(default=False)
def lerobot(session: nox.Session) -> None:
    """The camera of the example with LeRobot's own base class and factory, without the gigabytes around."""
    install_package(session, "test", "draccus", "packaging")
    session.install("--no-deps", "lerobot==0.4.4")  # later ones import more; their base class is the same
    test_installed(session, test_files("programs/test_lerobot"))


@nox.session(default=False)
def video(session: nox.Session) -> None:
    """Video and audio: GStreamer, PyAV, OpenCV and PortAudio, and the pages that show them."""
    install_package(session, "test", "opencv-python-headless", "sounddevice")
    share_bindings_of_gstreamer(session)
    tests = [str(TREE / "tests" / "video"), *test_files("api/test_video", "text/test_docs")]
    test_installed(session, ["-k", "video or gstreamer or opencv or audio or pyav", *tests])


def share_bindings_of_gstreamer(session: nox.Session) -> None:
    """Debian has them for its own Python: a session of the same version can import them."""
    ask = "import sys, sysconfig; print(sys.implementation.cache_tag, sysconfig.get_path('purelib'))"
    tag, packages = str(session.run("python", "-c", ask, silent=True)).split()
    debian, here = Path("/usr/lib/python3/dist-packages/gi"), Path(packages) / "gi"
    if any(debian.glob(f"_gi.{tag}-*.so")) and not here.exists():
        here.symlink_to(debian)


@nox.session(default=False)
def view(session: nox.Session) -> None:
    """The view in a browser: its server, and its page in Debian's Chromium."""
    install_package(session, "test-view")
    tests = [str(TREE / "tests" / "view")]
    test_installed(session, tests) if session.virtualenv.is_sandboxed else session.run("pytest", *tests)


@nox.session(default=False, python="3.11")
def fuzz(session: nox.Session) -> None:
    """The fuzzers, for 60 seconds each (or the argument), after a replay of what they once found."""
    duration = session.posargs[0] if session.posargs else "60"
    session.install(".[test]", "atheris>=3")
    session.run("make", "-C", "tests/provers/fuzz", "replay", "fuzz", f"DURATION={duration}", external=True)
    for target in ("schema", "calls"):
        folder = session.create_tmp()
        program = str(TREE / "tests" / "provers" / "fuzz" / "fuzz_python.py")
        options = [f"-max_total_time={int(duration) // 2}", "-seed=1", "-len_control=0", "-max_len=4000"]
        with session.chdir(folder):  # not the tree: the wheel is what is tested
            command = ["python", program, target, *options, "-timeout=30", "-rss_limit_mb=2000"]
            session.run(*command, env={"PYTHONPATH": f"{TREE}/tests:{TREE}/tests/hostile"})


@nox.session(venv_backend="none", default=False)
def model(session: nox.Session) -> None:
    """The model of the protocol, checked by spin: its short form, or `-- --only NAME`."""
    session.run("python", "tests/provers/model/check.py", *(session.posargs or ["--quick"]), external=True)


# ---- faults: kills at every point, a soak, valgrind


def install_for_faults(session: nox.Session) -> None:
    session.install(".[test]")
    install(session, "setuptools", "Cython")
    session.install("numpy")


@nox.session
def faults(session: nox.Session) -> None:
    """Every role killed at every point of every operation; what the survivors promise is checked."""
    install_for_faults(session)
    session.run("python", "tests/provers/faults/faults.py", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """One producer and eight consumers who join, hold, stop and are killed, for a minute."""
    install_for_faults(session)
    session.run("python", "tests/provers/faults/soak.py", *(session.posargs or ["--seconds", "60"]))


@nox.session
def valgrind(session: nox.Session) -> None:
    """The C self-test and a tour of the Python API under valgrind's memcheck."""
    install_for_faults(session)
    session.run("python", "tests/provers/faults/memcheck.py")


@nox.session
def sanitize_core_short(session: nox.Session) -> None:
    """A share of sanitize_core that fits into CI: what handles memory."""
    most = "api/test_frame api/test_lifetimes api/test_producer api/test_threads hostile/test_layout"
    test_sanitized(session, test_files(*most.split(), "processes/test_death", "text/test_events"))


@nox.session(venv_backend="none", default=False)
def litmus(session: nox.Session) -> None:
    """The litmus tests: each edge of the protocol in the C11 memory model, from our own headers."""
    session.run("make", "-C", "tests/provers/litmus", "run", external=True)


@nox.session(venv_backend="none", default=False)
def mutants(session: nox.Session) -> None:
    """Each fence, release, acquire and re-check removed once: some check must fail. --quick for CI."""
    session.run("python", "tests/provers/mutants.py", *session.posargs, external=True)
