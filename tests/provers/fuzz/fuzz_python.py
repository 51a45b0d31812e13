"""Coverage-guided fuzzing of the Python code: the strategies of hostile/test_damaged_blocks.py, by atheris.

PYTHONPATH=tests:tests/hostile python tests/provers/fuzz/fuzz_python.py schema|calls [libFuzzer's options]
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["shmring"]):
    import test_damaged_blocks


def main() -> None:
    """Fuzz until libFuzzer's limits."""
    test = {
        "schema": test_damaged_blocks.test_any_schema,
        "calls": test_damaged_blocks.test_any_damage_between_any_two_calls,
    }
    chosen = test[sys.argv.pop(1)]
    atheris.Setup(sys.argv, chosen.hypothesis.fuzz_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
