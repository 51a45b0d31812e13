"""Builds the extension module; everything else about the package is in pyproject.toml.

Environment variables for developers:

SHMRING_WERROR=1               warnings of Cython and of the C compiler are errors
SANITIZE=address,undefined     build with these sanitizers of the compiler
COVERAGE=1                     trace Cython lines (Python 3.11 only); the generated C lies in src/
DEBUG=1                        no optimisation, assertions on
"""

import os
import sysconfig
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


def enabled(name):
    return os.environ.get(name, "0") not in ("", "0")


def optimisation():
    """What compiles soonest among what makes the way of a frame as fast as all of -O2 does.

    gcc spends a third of -O2 on passes that bring it nothing: benchmarks/harness/same_code.py shows what they
    change, and `python -m benchmarks` what it is worth.
    """
    if debug:
        return ["-O0"]
    if "gcc" not in os.environ.get("CC", sysconfig.get_config_var("CC") or ""):
        return ["-O2"]
    passes = (
        "caller-saves crossjumping inline-functions inline-small-functions ipa-ra ipa-sra "
        "optimize-sibling-calls partial-inlining peephole2 reorder-blocks-algorithm=stc "
        "reorder-blocks-and-partition reorder-functions schedule-insns2 strict-aliasing"
    )
    return ["-O1", *(f"-f{one}" for one in passes.split())]


debug, coverage = enabled("DEBUG"), enabled("COVERAGE")
sanitizers = os.environ.get("SANITIZE", "")
# What was built one way must not be taken for up to date when built another way.
variant = [f"{name}={os.environ[name]}" for name in ("SANITIZE", "COVERAGE", "DEBUG") if enabled(name)]
build_base = "/".join(["build", *variant])

# No -march=native and no -ffast-math: a wheel runs on every machine and computes what it says.
compile_args = ["-std=c11", *optimisation(), "-fvisibility=hidden", "-Wall"]
if not (debug or sanitizers or coverage):
    compile_args += ["-g0"]  # Python's own flags ask for debug data: a third of the time, most of the file
macros = [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION")]
if debug:
    compile_args += ["-g", "-UNDEBUG"]
if enabled("SHMRING_WERROR"):
    compile_args += ["-Werror"]
if sanitizers:
    compile_args += ["-g", "-fsanitize=" + sanitizers, "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
if coverage:
    macros += [("CYTHON_TRACE_NOGIL", "1")]

core = Extension(
    "shmring._core",
    sources=["src/_core.pyx"],
    include_dirs=["shmring/include", "src"],
    depends=[*glob("shmring/include/**/*.h", recursive=True), *glob("src/*.h")],
    define_macros=macros,
    extra_compile_args=compile_args,
    extra_link_args=["-fsanitize=" + sanitizers] if sanitizers else [],
)

directives = {
    "language_level": 3,
    "freethreading_compatible": True,  # docs/threads.md says why
    "binding": True,
    "embedsignature": True,
    "embedsignature.format": "python",
    "auto_pickle": False,
    "autotestdict": False,
    "cdivision": True,
    "linetrace": coverage,
}


class BuildCore(build_ext):
    """Runs Cython when something is built: pip also asks for requirements and metadata, which need no C."""

    def run(self):
        import numpy as np
        from Cython.Build import cythonize
        from Cython.Compiler import Options

        Options.warning_errors = enabled("SHMRING_WERROR")
        self.include_dirs.append(np.get_include())
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
