"""Where a figure was measured, and with what."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import numpy as np

import shmring
from benchmarks import limits

TREE = Path(__file__).parents[2]


def first_line(path: str, key: str = "") -> str:
    """The first line of a file that starts with a key, without the key."""
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(key):
                return line.partition(":")[2].strip() if key else line
    except OSError:
        pass
    return "unknown"


def output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def processor() -> str:
    family, model = (first_line("/proc/cpuinfo", key) for key in ("cpu family", "model\t"))
    return f"{first_line('/proc/cpuinfo', 'model name')} (family {family}, model {model})"


def describe() -> dict[str, str]:
    """Machine, system, pinning and versions."""
    cache = "/sys/devices/system/cpu/cpu0/cache"
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "hypervisor": "yes" if "hypervisor" in first_line("/proc/cpuinfo", "flags") else "no",
        "caches": f"L2 {first_line(f'{cache}/index2/size')}, L3 {first_line(f'{cache}/index3/size')}",
        "memory": first_line("/proc/meminfo", "MemTotal"),
        "pinning": "1 to 1: producer on core 0, consumer on core 1; more than two processes: not pinned",
        "scheduling": scheduling(),
        "governor": first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "kernel": f"{platform.system()} {platform.release()}",
        "huge pages for shared memory": first_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled"),
        "load before": load(),
        "core to core": f"{limits.probe():.0f} ns one way at the start",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": output(os.environ.get("CC", "cc"), "--version").splitlines()[0],
        "shmring": build_of(),
        "numpy": np.__version__,
    }


def build_of() -> str:
    """Version of the shmring that is imported, and the commit of the tree that it lies in."""
    package = Path(shmring.__file__).parent
    git = ("git", "-C", str(package))
    tracked = output(*git, "ls-files", "__init__.py") == "__init__.py"
    commit = output(*git, "describe", "--always", "--dirty") if tracked else "unknown"
    return f"{shmring.__version__}, commit {commit}"


def scheduling() -> str:
    """The scheduler's policy for this process, and so for all that it starts."""
    policies = {os.SCHED_OTHER: "other", os.SCHED_FIFO: "fifo", os.SCHED_RR: "rr"}
    policy = os.sched_getscheduler(0)
    priority = os.sched_getparam(0).sched_priority
    return f"{policies.get(policy, policy)}, priority {priority}, nice {os.nice(0)}"


def load() -> str:
    return "{:.2f} {:.2f} {:.2f}".format(*os.getloadavg())


def version_of(package: str | None) -> str:
    """Of an installed distribution."""
    if package is None:
        return f"Python {platform.python_version()}"
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package}: not installed"
