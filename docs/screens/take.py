"""Takes the pictures and films of the viewer: python docs/screens/take.py writes them beside itself.

`python docs/screens/take.py view-dark.webp` takes only what it names. Needs shmring[view], playwright, pillow
and chromium. The rings hold made-up pictures and sounds; the films show them at the pace of the run.
"""

import base64
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

import shmring

HERE = Path(__file__).parent
OPTIONS = ["--disable-gpu", "--enable-unsafe-swiftshader", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
MOST_COLOURS = 256
WIDE = {"width": 1560, "height": 900}
FILM_SIZE, FILM_QUALITY = (1040, 600), 45
FILM_SECONDS, FILM_RATE = 5, 8  # at most so many pictures per second
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


ONE = "#ring=microscope&levels=0,2600&map=inferno"
SEVERAL = f"{ONE}&ring=interferometer&map=viridis&ring=microphone&seconds=0.5&spectrum=1"


def light(page: Page, base: str, name: str) -> None:
    """One ring, with a line profile and the traffic."""
    show(page, base + ONE)
    page.wait_for_timeout(3000)
    page.evaluate("shmring.panels[0].traffic.element.open = true")
    page.keyboard.press("l")
    page.mouse.move(480, 260)
    page.wait_for_timeout(4000)
    save(page, name)


def dark(page: Page, base: str, name: str) -> None:
    """Three rings side by side."""
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(WIDE)
    show(page, base + SEVERAL)
    page.wait_for_timeout(5000)
    save(page, name)


def film(page: Page, base: str, name: str) -> None:
    """The same, moving: whenever the browser has painted, with the time that passed until it did again."""
    page.emulate_media(color_scheme="dark" if "dark" in name else "light")
    page.set_viewport_size(WIDE)
    show(page, base + SEVERAL)
    page.wait_for_timeout(4000)
    painted: list[tuple[float, str]] = []
    browser = page.context.new_cdp_session(page)

    def keep(event: dict) -> None:
        now = event["metadata"]["timestamp"]
        if not painted or now - painted[-1][0] >= 1 / FILM_RATE:
            painted.append((now, event["data"]))
        browser.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]})

    browser.on("Page.screencastFrame", keep)
    browser.send("Page.startScreencast", {"format": "png"})
    page.wait_for_timeout(FILM_SECONDS * 1000)
    browser.remove_listener("Page.screencastFrame", keep)
    browser.send("Page.stopScreencast")
    browser.detach()
    times = [now for now, _ in painted]
    first, *others = [
        Image.open(BytesIO(base64.b64decode(data))).convert("RGB").resize(FILM_SIZE, Image.Resampling.LANCZOS)
        for _, data in painted[:-1]
    ]
    first.save(
        HERE / name,
        save_all=True,
        append_images=others,
        duration=[round(1000 * (after - now)) for now, after in pairwise(times)],
        loop=0,
        quality=FILM_QUALITY,
        method=4,
    )
    print(name, (HERE / name).stat().st_size, f"{len(others) + 1} pictures in {times[-1] - times[0]:.1f} s")


SHOTS = {"view-light.png": light, "view-dark.png": dark, "view-light.webp": film, "view-dark.webp": film}


def show(page: Page, address: str) -> None:
    page.goto(address)
    page.reload()


def take(base: str, address: str) -> None:
    with sync_playwright() as starter:
        browser = starter.chromium.launch(executable_path=shutil.which("chromium"), args=OPTIONS)
        context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light")
        page = context.new_page()
        page.goto(address)
        for name in sys.argv[1:] or SHOTS:
            SHOTS[name](page, base, name)
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
