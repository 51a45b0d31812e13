"""How fast the page is: frames per second and milliseconds from publish to picture, by its own count.

`python tests/view/browser/measure.py` publishes 1080p frames of 8 bits 60 times a second, lets headless
Chromium show them, drawing in software, and asks the page at the end. Nothing is attached to the browser
meanwhile: developer tools slow the WebSockets of a page several times.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.request import urlopen

import numpy as np
from websockets.sync.client import connect

import shmring

ASK = """(() => {
    const [{ pace, last, view }] = shmring.panels;
    const { mean, latency, delays } = pace;
    const drawn = `${view.canvas.width} x ${view.canvas.height}`;
    return JSON.stringify({ mean, latency, worst: Math.max(...delays), sent: last.shape, drawn });
})()"""
WARM_UP = 5.0  # seconds


def publish(ring: shmring.Ring, rate: float, ended: threading.Event) -> None:
    """Put a moving pattern into the ring, at a steady rate."""
    height, width = ring.shape
    picture = np.add.outer(np.arange(height), np.arange(2 * width)).astype("u1")
    with ring.producer() as out:
        began, number = time.monotonic(), 0
        while not ended.wait(max(0.0, began + number / rate - time.monotonic())):
            with out.claim() as slot:
                slot.array[:] = picture[:, number % width :][:, :width]
            number += 1


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--rate", type=float, default=60)
    options.add_argument("--size", default="1280,800", help="of the window (default 1280,800)")
    chosen = options.parse_args()
    ended = threading.Event()
    with shmring.Ring.create(shape=(1080, 1920), dtype="u1", slots=8) as ring:
        producer = threading.Thread(target=publish, args=(ring, chosen.rate, ended))
        producer.start()
        command = [sys.executable, "-m", "shmring", "view", "--no-browser", "--port", "0", ring.name]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            address = re.search(r"http://\S+", server.stdout.readline())[0]
            found = watch(f"{address}#ring={ring.name}", chosen)
        finally:
            ended.set()
            server.terminate()
            server.wait()
            producer.join()
    print(f"{found['mean']:.1f} frames/s shown of {chosen.rate:g}; from publish to picture:", end=" ")
    print(
        f"{found['latency']:.0f} ms in the median, {found['worst']:.0f} ms at most, of the last 120;", end=" "
    )
    print(f"sent {found['sent']}, drawn {found['drawn']}")


def watch(address: str, chosen: argparse.Namespace) -> dict[str, float]:
    """Let Chromium show a page for a while; what the page then says."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    flags = ["--headless", "--disable-gpu", "--enable-unsafe-swiftshader", f"--window-size={chosen.size}"]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        flags += [f"--user-data-dir={folder}", "--remote-debugging-port=0"]
        browser = subprocess.Popen([chromium, *flags, address], stderr=subprocess.DEVNULL)
        try:
            started = Path(folder, "DevToolsActivePort")
            while not (started.exists() and started.read_text()):
                time.sleep(0.1)
            time.sleep(WARM_UP + chosen.seconds)
            return ask(started.read_text().split()[0])
        finally:
            browser.terminate()
            browser.wait()


def ask(port: str) -> dict[str, float]:
    with urlopen(f"http://127.0.0.1:{port}/json") as answer:
        page = next(one for one in json.load(answer) if one["type"] == "page")
    with connect(page["webSocketDebuggerUrl"]) as tools:
        tools.send(json.dumps({"id": 1, "method": "Runtime.evaluate", "params": {"expression": ASK}}))
        return json.loads(json.loads(tools.recv())["result"]["result"]["value"])


if __name__ == "__main__":
    main()
