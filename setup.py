"""Builds the extension module; everything else about the package is in pyproject.toml.

Environment variables for developers:

SHMRING_WERROR=1               warnings of Cython and of the C compiler are errors
SANITIZE=address,undefined     build with these sanitizers of the compiler
COVERAGE=1                     trace Cython lines (Python 3.11 only); the generated C lies in src/
DEBUG=1                        no optimisation, assertions on
SOURCE_DATE_EPOCH=SECONDS      the time of every file in the sdist: equal trees make equal archives
"""

import gzip
import os
import shlex
import shutil
import sys
import sysconfig
import tarfile
import time
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist


def enabled(name):
    return os.environ.get(name, "0") not in ("", "0")


compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC"))[0]


def what_is_missing():
    """Why nothing can be compiled here, or None."""
    if not shutil.which(compiler):
        return f"a C compiler, but there is no {compiler}"
    header = sysconfig.get_path("include") + "/Python.h"
    return None if os.path.exists(header) else f"the C headers of this Python, but there is no {header}"


# Before setuptools says anything, so that this is the first line that pip shows.
missing = what_is_missing() if {"bdist_wheel", "build_ext", "editable_wheel"} & set(sys.argv) else None
if missing:
    sys.exit(
        f"shmring needs {missing}. Install what builds it, then run the same command again:\n"
        "    apt install gcc libc6-dev python3-dev    (Debian, Ubuntu)\n"
        "    dnf install gcc python3-devel            (Fedora, RHEL)\n"
        "    apk add gcc musl-dev python3-dev         (Alpine)"
    )

debug, coverage = enabled("DEBUG"), enabled("COVERAGE")
sanitizers = os.environ.get("SANITIZE", "")
# What was built one way must not be taken for up to date when built another way.
variant = [f"{name}={os.environ[name]}" for name in ("SANITIZE", "COVERAGE", "DEBUG") if enabled(name)]
build_base = "/".join(["build", *variant])

# No -march=native and no -ffast-math: a wheel runs on every machine and computes what it says.
# These steps of -O2 make as few instructions of a call as all of them do, in three quarters of the time.
steps = ["inline-small-functions", "caller-saves", "optimize-sibling-calls", "expensive-optimizations"]
optimise = ["-O1", *(f"-f{step}" for step in steps)]
compile_args = ["-std=c11", "-pipe", *(["-O0"] if debug else optimise), "-fvisibility=hidden"]
link_args = []
compile_args += ["-Wall", "-Werror"] if enabled("SHMRING_WERROR") else ["-w"]  # warnings are for developers
if not (debug or sanitizers or coverage):
    compile_args += ["-g0"]  # Python's own flags ask for debug data: a third of the time, most of the file
    if "gcc" in os.path.basename(compiler) and shutil.which("make"):
        # The one file is compiled at link time, in parts, by make on several cores: the same instructions.
        compile_args += ["-flto"]
        link_args += [f"-flto={os.cpu_count()}", *optimise]
if debug:
    compile_args += ["-g", "-UNDEBUG"]
if sanitizers:
    compile_args += ["-g", "-fsanitize=" + sanitizers, "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    link_args += ["-fsanitize=" + sanitizers]

core = Extension(
    "shmring._core",
    sources=["src/_core.pyx"],
    include_dirs=["shmring/include", "src"],
    depends=[*glob("shmring/include/**/*.h", recursive=True), *glob("src/*.h")],
    define_macros=[("CYTHON_TRACE_NOGIL", "1")] if coverage else [],
    extra_compile_args=compile_args,
    extra_link_args=link_args,
)

directives = {
    "language_level": 3,
    "freethreading_compatible": True,  # docs/threads.md says why
    "binding": False,  # a call of a builtin method costs half of one of Cython's own function type
    "embedsignature": True,
    "embedsignature.format": "clinic",
    "auto_pickle": False,
    "autotestdict": False,
    "cdivision": True,
    "emit_code_comments": coverage,
    "linetrace": coverage,
}


class BuildCore(build_ext):
    """Runs Cython when something is built: pip also asks for requirements and metadata, which need no C."""

    def run(self):
        from Cython.Build import cythonize
        from Cython.Compiler import Options

        Options.warning_errors = enabled("SHMRING_WERROR")
        translated = cythonize(
            self.extensions,
            build_dir=None if coverage else build_base + "/cython",
            compiler_directives=directives,
        )
        for extension, made in zip(self.extensions, translated, strict=True):
            extension.sources = made.sources
        super().run()


class MakeArchive(sdist):
    """Puts into the sdist only what is of the tree: names, contents, and which files can be executed."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, owner=None, group=None):
        moment = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))

        def plain(member):
            member.mtime, member.mode = moment, 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            return member

        path = base_name + ".tar.gz"
        with (
            open(path, "wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=moment) as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            archive.add(base_dir, filter=plain)  # in the order of names
        return path


setup(
    ext_modules=[core],
    cmdclass={"build_ext": BuildCore, "sdist": MakeArchive},
    options={"build": {"build_base": build_base}},
)
