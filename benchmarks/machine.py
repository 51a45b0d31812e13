"""Where a figure was measured."""

import os
import platform
from pathlib import Path

import numpy as np

import shmring


def first_line(path: str, key: str = "") -> str:
    """The first line of a file that starts with a key, without the key."""
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(key):
                return line.partition(":")[2].strip() if key else line
    except OSError:
        pass
    return "unknown"


def describe() -> dict[str, str]:
    """Machine, system and versions."""
    return {
        "processor": first_line("/proc/cpuinfo", "model name"),
        "cores": f"{os.cpu_count()}, producer on core 0, consumer on core 1",
        "last-level cache": first_line("/sys/devices/system/cpu/cpu0/cache/index3/size"),
        "governor": first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load before": "{:.2f} {:.2f} {:.2f}".format(*os.getloadavg()),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": f"shmring {shmring.__version__}, numpy {np.__version__}",
    }
