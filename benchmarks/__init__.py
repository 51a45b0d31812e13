"""Benchmarks of shmring; ``python -m benchmarks`` runs them."""

import os

# An idle OpenBLAS thread spins for a while on the cores that are measured.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
