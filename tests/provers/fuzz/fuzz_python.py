"""Coverage-guided fuzzing of the Python code, by the strategies of tests/test_hostile.py. Needs atheris.

python fuzz_python.py schema|calls [libFuzzer's options]
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["shmring"]):
    import test_hostile


def main() -> None:
    """Fuzz until libFuzzer's limits."""
    test = {
        "schema": test_hostile.test_any_schema,
        "calls": test_hostile.test_any_damage_between_any_two_calls,
    }
    chosen = test[sys.argv.pop(1)]
    atheris.Setup(sys.argv, chosen.hypothesis.fuzz_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
