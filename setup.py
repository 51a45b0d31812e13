"""Builds the extension module; everything else about the package is in pyproject.toml.

Environment variables for developers:

SHMRING_WERROR=1               warnings of Cython and of the C compiler are errors
SANITIZE=address,undefined     build with these sanitizers of the compiler
COVERAGE=1                     trace Cython lines (Python 3.11 only); the generated C lies in src/
DEBUG=1                        no optimisation, assertions on
"""

import os
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


def enabled(name):
    return os.environ.get(name, "0") not in ("", "0")


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
compile_args += ["-Wall", "-Werror"] if enabled("SHMRING_WERROR") else ["-w"]  # warnings are for developers
if not (debug or sanitizers or coverage):
    compile_args += ["-g0"]  # Python's own flags ask for debug data: a third of the time, most of the file
if debug:
    compile_args += ["-g", "-UNDEBUG"]
if sanitizers:
    compile_args += ["-g", "-fsanitize=" + sanitizers, "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]

core = Extension(
    "shmring._core",
    sources=["src/_core.pyx"],
    include_dirs=["shmring/include", "src"],
    depends=[*glob("shmring/include/**/*.h", recursive=True), *glob("src/*.h")],
    define_macros=[("CYTHON_TRACE_NOGIL", "1")] if coverage else [],
    extra_compile_args=compile_args,
    extra_link_args=["-fsanitize=" + sanitizers] if sanitizers else [],
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


setup(
    ext_modules=[core],
    cmdclass={"build_ext": BuildCore},
    options={"build": {"build_base": build_base}},
)
