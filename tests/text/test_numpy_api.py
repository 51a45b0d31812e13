"""What the core declares of numpy's C-API is what numpy's own headers declare."""

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest

TREE = Path(__file__).parents[2]
OURS = TREE / "src" / "numpy_api.h"
ENTRY = re.compile(r"#define (PyArray_\w+)[ \\\n]+(\([^#]*?PyArray_API\s*\[\d+\]\))")
CONSTANTS = re.findall(r"#define (NPY_\w+) ", OURS.read_text())
FIELDS = ("data", "nd", "dimensions", "strides", "base", "descr", "flags", "weakreflist")

PROGRAM = f"""
#include <stddef.h>
#include <stdio.h>
#include HEADER
int main(void)
{{
{"".join(f'    printf("{name} %d ", (int)({name}));' for name in CONSTANTS)}
{"".join(f'    printf("{name} %d ", (int)offsetof(ARRAY, {name}));' for name in FIELDS)}
    printf("%d %d", (int)sizeof(npy_intp), (int)sizeof(NPY_CASTING));
}}
"""


def table(header: Path) -> dict[str, str]:
    """The type and the place of each function, without spaces and line ends."""
    entries = ENTRY.findall(header.read_text())
    return {name: re.sub(r"[\s\\]", "", how).replace("npy_bool", "unsignedchar") for name, how in entries}


def test_functions_are_where_numpy_puts_them() -> None:
    ours = table(OURS)
    theirs = table(Path(np.get_include(), "numpy", "__multiarray_api.h"))
    assert len(ours) == OURS.read_text().count("PyArray_API[") > 5
    assert ours == {name: theirs.get(name) for name in ours}


def test_arrays_and_constants_are_numpy_s(tmp_path: Path) -> None:
    if not shutil.which("cc"):
        pytest.skip("no cc")
    (tmp_path / "values.c").write_text(PROGRAM)
    folders = [np.get_include(), sysconfig.get_path("include"), str(OURS.parent)]
    options = ["-DNPY_NO_DEPRECATED_API=NPY_2_0_API_VERSION", *(f"-I{folder}" for folder in folders)]

    def values(header: str, array: str) -> str:
        program = tmp_path / array
        chosen = [f"-DHEADER={header}", f"-DARRAY={array}", "-o", program, tmp_path / "values.c"]
        # Nothing of Python is called, so nothing of it is linked.
        unused = ["-O1", "-ffunction-sections", "-Wl,--gc-sections"]
        subprocess.run(["cc", "-w", *unused, *options, *chosen], check=True)
        return subprocess.run([program], capture_output=True, text=True, check=True).stdout

    assert values('"numpy_api.h"', "PyArrayObject") == values("<numpy/arrayobject.h>", "PyArrayObject_fields")
