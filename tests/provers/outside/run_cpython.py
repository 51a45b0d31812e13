"""Run CPython's own tests of multiprocessing in this process while rings are alive in it.

    PYTHONPATH=tests python tests/provers/outside/run_cpython.py START_METHOD [CLASS ...]

START_METHOD is fork, spawn or forkserver; without classes the whole module runs. Frames are exchanged
before the first test, after each and after the last. Ends with 1 if a test or a ring failed.
"""

from __future__ import annotations

import importlib
import sys
import unittest

from rings_alive import RingsAlive

VERBOSITY = 2  # names a test that does not end


class Result(unittest.TextTestResult):
    """Uses the rings after every test; a ring that fails is that test's failure."""

    rings: RingsAlive

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        try:
            self.rings.exchange()
        except Exception:
            self.addError(test, sys.exc_info())
        super().stopTest(test)


def main(method: str, *classes: str) -> int:
    module = importlib.import_module(f"multiprocessing_{method}")
    load = unittest.defaultTestLoader
    suite = load.loadTestsFromNames(classes, module) if classes else load.loadTestsFromModule(module)
    rings = Result.rings = RingsAlive()
    try:
        rings.exchange()
        outcome = unittest.TextTestRunner(resultclass=Result, verbosity=VERBOSITY).run(suite)
        rings.exchange()
    finally:
        rings.close()
    passed = outcome.testsRun - len(outcome.skipped) - len(outcome.failures) - len(outcome.errors)
    print(f"{passed} passed, {len(outcome.skipped)} skipped, {rings.exchanged} frames exchanged")
    return 0 if outcome.wasSuccessful() else 1


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
