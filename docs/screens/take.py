"""Takes the pictures of the viewer: python docs/screens/take.py writes them beside itself.

Needs shmring[view], playwright, pillow and chromium. The rings hold made-up pictures and sounds.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

import shmring

HERE = Path(__file__).parent
OPTIONS = ["--disable-gpu", "--enable-unsafe-swiftshader", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
MOST_COLOURS = 256
Y, X = np.mgrid[0:512, 0:640].astype("f4")
GENERATOR = np.random.default_rng(7)
CELLS = GENERATOR.uniform([0, 0, 6, 200, 0], [512, 640, 26, 2600, 6.28], (70, 5))
RATE = 8000  # samples per second
FRAMES = 80  # which repeat


def microscope(number: int) -> np.ndarray:
    """Cells that drift, with a bright rim and a dim middle."""
    picture = 180 + 60 * np.sin(X / 90) * np.cos(Y / 110)
    for y, x, size, light, phase in CELLS:
        y, x = (
            y + 6 * np.sin(number / FRAMES * 2 * np.pi + phase),
            x + 6 * np.cos(number / FRAMES * 2 * np.pi + phase),
        )
        box = np.s_[max(int(y) - 90, 0) : int(y) + 90, max(int(x) - 90, 0) : int(x) + 90]
        distance = np.hypot(Y[box] - y, (X[box] - x) * (1 + 0.3 * np.sin(phase)))
        picture[box] += light * (
            np.exp(-((distance - size) ** 2) / 18) + 0.45 * np.exp(-((distance / size) ** 2))
        )
    return np.clip(picture, 0, 4095).astype("u2")


def interferometer(number: int) -> np.ndarray:
    """Rings of light that run outwards."""
    distance = np.hypot(Y - 250, X - 330) ** 2 / 2600
    light = (1 + np.cos(distance - number / FRAMES * 16 * np.pi)) * np.exp(
        -(np.hypot(Y - 256, X - 320) ** 2) / 90000
    )
    return (20 + 112 * light).astype("u1")


def microphone(number: int) -> np.ndarray:
    """Two tones, one of which swells."""
    time_ = (number * 400 + np.arange(400)) / RATE
    swell = 1 + 0.6 * np.sin(2 * np.pi * 1.5 * time_)
    left = 40 * np.sin(2 * np.pi * 440 * time_) * swell
    right = 60 * np.sin(2 * np.pi * 7 * time_) + 8 * np.sin(2 * np.pi * 1200 * time_)
    return np.stack([left, right]).astype("i2")


TIME = {"name": "time", "type": "time", "unit": "second", "scale": 1 / RATE}
CHANNELS = {"name": "channel", "type": "channel", "labels": ["left", "right"]}
SOURCES = {
    "microscope": (microscope, {"range": [0, 4095], "unit": "count"}, 20),
    "interferometer": (interferometer, {}, 20),
    "microphone": (microphone, {"axes": [CHANNELS, TIME], "unit": "millivolt"}, RATE / 400),
}


def produce(name: str, ready: threading.Barrier, ended: threading.Event) -> None:
    make, attrs, rate = SOURCES[name]
    takes = [make(number) for number in range(FRAMES)]
    ring = shmring.Ring.create(name, shape=takes[0].shape, dtype=takes[0].dtype, slots=16, attrs=attrs)
    with ring, ring.producer() as out, ring.consumer(label="recorder", lossless=True) as frames:
        ready.wait()
        number, began = 0, time.monotonic()
        while not ended.wait(max(0.0, began + number / rate - time.monotonic())):
            out.put(takes[number % FRAMES])
            frames.get()
            number += 1


def save(page: Page, name: str) -> None:
    """Write what the page shows, with few colours: a tenth of the bytes."""
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
    small = picture.quantize(MOST_COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    small.save(HERE / name, optimize=True)
    print(name, (HERE / name).stat().st_size)


def take(base: str, address: str) -> None:
    one = "#ring=microscope&levels=0,2600&map=inferno"
    several = f"{one}&ring=interferometer&map=viridis&ring=microphone&seconds=0.5&spectrum=1"
    with sync_playwright() as starter:
        browser = starter.chromium.launch(executable_path=shutil.which("chromium"), args=OPTIONS)
        context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light")
        page = context.new_page()
        page.goto(address)
        page.goto(base + one)
        page.reload()
        page.wait_for_timeout(3000)
        page.evaluate("shmring.panels[0].traffic.element.open = true")
        page.keyboard.press("l")
        page.mouse.move(480, 260)
        page.wait_for_timeout(4000)
        save(page, "view-light.png")
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size({"width": 1560, "height": 900})
        page.goto(base + several)
        page.reload()
        page.wait_for_timeout(5000)
        save(page, "view-dark.png")
        browser.close()


def main() -> None:
    ready, ended = threading.Barrier(len(SOURCES) + 1), threading.Event()
    producers = [threading.Thread(target=produce, args=(name, ready, ended)) for name in SOURCES]
    for producer in producers:
        producer.start()
    ready.wait()
    command = [sys.executable, "-m", "shmring", "view", "--no-browser", "--port", "0", *SOURCES]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://\S+", server.stdout.readline())[0]
        take(address.partition("?")[0], address)
    finally:
        server.terminate()
        server.wait()
        ended.set()
        for producer in producers:
            producer.join()


if __name__ == "__main__":
    main()
