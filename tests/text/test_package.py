"""The package as installed: metadata, headers for C and C++, the message of an unbuilt tree."""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import shmring

pytestmark = pytest.mark.slow

TREE = Path(__file__).parents[2]
INSTALLED = Path(shmring.__file__).parent
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wpedantic", "-Werror"]
COMPILERS = [("gcc", "c", "c11"), ("clang", "c", "c11"), ("g++", "c++", "c++17"), ("clang++", "c++", "c++17")]
SMALL = {"__future__", "_json", "atexit", "errno", "gc", "json", "pwd", "resource", "select", "shlex"}
ADAPTERS = {
    "bluesky": ["ophyd_async"],
    "epics": ["p4p"],
    "gstreamer": ["gi"],
    "jax": ["jax"],
    "jupyter": ["cmap", "jupyter_rfb"],
    "ray": ["ray"],
    "torch": ["torch"],
    "view": ["starlette"],
}
FOREIGN = """
#include <shmring/shmring.h>
#include <stdio.h>

int
main(void)
{
    printf("%u\\n", SHMRING_ABI);
    return 0;
}
"""


def test_version_is_the_metadata_s() -> None:
    assert shmring.__version__ == importlib.metadata.version("shmring")


def test_numpy_is_the_only_dependency() -> None:
    required = importlib.metadata.requires("shmring") or []
    assert [line for line in required if "extra ==" not in line] == ["numpy>=2.2"]


def test_dir_shows_what_is_for_users() -> None:
    code = "import shmring; print(*(name for name in dir(shmring) if not name.startswith('__')))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert sorted(said.stdout.split()) == sorted([*shmring.__all__, "attrs", "errors", "recording"])


def test_recording_is_there_without_an_import_of_its_own() -> None:
    code = "import sys, shmring; print('shmring.recording' in sys.modules, shmring.recording.record.__name__)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False record\n"


def test_import_needs_numpy_alone() -> None:
    code = """if True:
        import sys, numpy
        before = set(sys.modules)
        import shmring
        mine = {sys.modules[name] for name in set(sys.modules) - before}
        files = [getattr(module, "__file__", None) or "" for module in mine]
        others = [file for file in files if "site-packages" in file]
        print([file for file in others if "shmring" not in file and "numpy" not in file])
    """
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_import_is_light() -> None:
    code = """if True:
        import sys, numpy
        before = set(sys.modules)
        import shmring
        print(*set(sys.modules) - before)
    """
    command = [sys.executable, "-c", code]
    new = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert "shmring._core" in new
    heavy = {
        "asyncio",
        "dataclasses",
        "multiprocessing",
        "numpy.typing",
        "pathlib",
        "subprocess",
        "urllib.parse",
    }
    later = {"shmring._aio", "shmring._stats", "shmring._log", "shmring._cli", "shmring.recording"}
    assert new & (heavy | later) == set()
    packages = {name.partition(".")[0] for name in new}
    assert packages & sys.stdlib_module_names <= SMALL


def test_what_is_imported_later_is_there_all_the_same() -> None:
    code = "import shmring; print(*dir(shmring)); from shmring import *; print(RingStats, report_to_log)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, later = said.stdout.splitlines()
    assert set(names.split()) >= {*shmring.__all__, "__version__"}
    assert "_stats.RingStats" in later


def test_without_its_extra_each_adapter_raises_the_same_error() -> None:
    code = f"""if True:
        import importlib, sys
        for name, libraries in {ADAPTERS}.items():
            sys.modules.update(dict.fromkeys(libraries))
            try:
                importlib.import_module(f"shmring.{{name}}")
            except ImportError as error:
                print(name, type(error).__name__, error.name, "install" in str(error))
    """
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = [f"{name} ModuleNotFoundError {one[0]} True" for name, one in ADAPTERS.items()]
    assert said.stdout.splitlines() == expected


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is there")
def test_a_folder_of_sessions_is_not_ray(tmp_path) -> None:
    """Ray makes /tmp/ray: to a program that is run in /tmp, this is a package without content."""
    (tmp_path / "ray").mkdir()
    code = [sys.executable, "-c", "import shmring.ray"]
    said = subprocess.run(code, capture_output=True, text=True, cwd=tmp_path)
    assert 'ModuleNotFoundError: shmring.ray needs Ray: pip install "shmring[ray]"' in said.stderr


def test_python_floor() -> None:
    assert importlib.metadata.metadata("shmring")["Requires-Python"] == ">=3.11"


def test_package_data_is_installed() -> None:
    assert (INSTALLED / "py.typed").is_file()
    assert (INSTALLED / "_core.pyi").is_file()


def test_get_include_has_every_header() -> None:
    folder = Path(shmring.get_include())
    installed = {path.relative_to(folder).as_posix() for path in folder.rglob("*.h")}
    assert {"shmring/shmring.h", "shmring/layout.h", "shmring/internal/atomic.h"} <= installed
    tree = TREE / "shmring" / "include"
    assert installed == {path.relative_to(tree).as_posix() for path in tree.rglob("*.h")}


@pytest.mark.parametrize(("compiler", "language", "standard"), COMPILERS, ids=lambda word: word)
@pytest.mark.slow
def test_foreign_program_builds_against_get_include(
    tmp_path: Path, compiler: str, language: str, standard: str
) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}")
    source, program = tmp_path / "foreign.txt", tmp_path / "foreign"
    source.write_text(FOREIGN)
    command = [compiler, "-x", language, f"-std={standard}", *WARNINGS, "-I", shmring.get_include()]
    built = subprocess.run(
        [*command, "-o", program, source, "-pthread"], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    assert int(subprocess.run([program], capture_output=True, text=True, check=True).stdout) > 0


def test_uncompiled_tree_says_what_to_do(tmp_path: Path) -> None:
    copy = tmp_path / "shmring"
    copy.mkdir()
    for module in INSTALLED.glob("*.py"):
        shutil.copy(module, copy)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", "import shmring"]
    said = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.returncode == 1
    last = said.stderr.strip().partition("ImportError: ")[2]
    assert "pip install -e ." in last, said.stderr
    assert "not built" in last or "not compiled" in last, said.stderr


@pytest.mark.parametrize(
    "command",
    [
        "bdist_wheel",
        *(pytest.param(one, marks=pytest.mark.stress) for one in ("editable_wheel", "build_ext")),
    ],
)
def test_without_a_compiler_the_first_line_says_what_to_install(tmp_path: Path, command: str) -> None:
    pytest.importorskip("setuptools")
    environment = {**os.environ, "PATH": str(tmp_path), "CC": "gcc -pthread"}
    words = [sys.executable, "setup.py", command]
    said = subprocess.run(words, env=environment, cwd=TREE, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (1, "")
    first, *others = said.stderr.splitlines()
    assert first.startswith("shmring needs a C compiler, but there is no gcc. Install")
    assert "apt install gcc" in others[0]


def test_equal_trees_make_equal_sdists(tmp_path: Path) -> None:
    """Also those that lie elsewhere, and were checked out at another time, with other permissions."""
    pytest.importorskip("setuptools", minversion="77")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=TREE, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a repository of git, which knows what belongs to the tree")
    names = [name for name in listing.stdout.split("\0") if (TREE / name).is_file()]
    archives = []
    for folder, mask in {"a": 0o022, "one/deeper in": 0o077}.items():
        before = os.umask(mask)
        try:
            archive = make_sdist(tmp_path / folder, names, keep_times=mask == 0o022)
        finally:
            os.umask(before)
        archives.append(archive.read_bytes())
    assert archives[0] == archives[1]
    with tarfile.open(archive) as opened:
        packed = {member.name.partition("/")[2] for member in opened if member.isfile()}
    assert set(names) - packed == {".gitignore"}
    assert {name for name in packed - set(names) if "egg-info/" not in name} == {"PKG-INFO", "setup.cfg"}


def make_sdist(copy: Path, names: list[str], *, keep_times: bool) -> Path:
    """Return the sdist of a new copy of the tree."""
    for name in names:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(TREE / name, copy / name)
        if keep_times:
            shutil.copystat(TREE / name, copy / name)
        elif os.access(TREE / name, os.X_OK):
            (copy / name).chmod(0o700)
    program = "import setuptools.build_meta as it; print(it.build_sdist('dist'))"
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1000000000"}
    command = [sys.executable, "-W", "ignore", "-c", program]
    made = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return copy / "dist" / made.stdout.split()[-1]
