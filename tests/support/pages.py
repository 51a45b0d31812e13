"""`shmring view` as a process, and its page in a browser: opens rings, waits for frames, reads the canvas."""

from __future__ import annotations

import re
import subprocess
import sys
from base64 import b64decode
from urllib.parse import quote

import numpy as np

PATIENCE = 60_000  # ms; the suite runs on busy machines


class Server:
    """`shmring view`, and what a page needs to be let in."""

    def __init__(self, *words: str, port: int = 0, token: str | None = None):
        command = [sys.executable, "-m", "shmring", "view", "--no-browser", "--port", str(port), *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        found = re.search(r"(http://\S+?:(\d+)/)\?token=(\S+)", line)
        assert found, f"the server said {line!r}"
        self.base, self.port, self.token = found[1], int(found[2]), found[3]

    def end(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=20)


BASE64 = "((bytes) => btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), '')))"


def rgb(encoded: str, width: int, height: int) -> np.ndarray:
    """Pixels of a canvas, without their alpha."""
    return np.frombuffer(b64decode(encoded), "u1").reshape(height, width, 4)[..., :3]


def address(*names: str, **settings) -> str:
    parts = [f"ring={quote(name)}" for name in names]
    return "#" + "&".join(parts + [f"{key}={quote(str(value))}" for key, value in settings.items()])


class Page:
    """One page: opens rings, waits for frames, asks what is shown."""

    def __init__(self, context, server):
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on(
            "console",
            lambda said: said.type == "error" and self.faults.append(f"{said.text} {said.location}"),
        )
        self.page.on("request", self.check_request)
        self.server = server

    def check_request(self, request) -> None:
        if not request.url.startswith((self.server.base, "blob:")):
            self.faults.append(f"the page asks for {request.url}")

    def open(self, *names: str, **settings) -> Page:
        """Open the page; settings are those of the last ring, as the address has them."""
        self.page.goto(self.server.base + address(*names, **settings))
        self.wait("globalThis.shmring?.known")
        return self

    def beside(self, *names: str) -> Page:
        """Open one more page in the same browser."""
        return Page(self.page.context, self.server).open(*names)

    def go(self, *names: str, **settings) -> Page:
        """Let an open page show something else."""
        self.run("(hash) => { location.hash = ''; location.hash = hash; }", address(*names, **settings))
        self.wait("shmring.panels.length === argument", len(names))
        return self

    def wait(self, condition: str, argument=None) -> None:
        """Wait until an expression is true, in which `argument` may be used.

        Playwright's own wait evaluates text in the page, which the page's policy forbids.
        """
        self.page.evaluate(
            f"""async (argument) => {{
                const end = performance.now() + {PATIENCE};
                while (!({condition})) {{
                    if (performance.now() > end) throw new Error("still not so");
                    await new Promise((done) => setTimeout(done, 5));
                }}
            }}""",
            argument,
        )

    def run(self, expression: str, argument=None):
        return self.page.evaluate(expression, argument)

    def shows(self, seq: int, panel: int = 0) -> Page:
        """Wait until a panel has drawn that frame."""
        self.wait("shmring.panels[argument[0]]?.last?.seq === argument[1]", [panel, seq])
        return self

    def heard(self, panel: int = 0) -> Page:
        """Wait until the server has handled what a panel told it: it answers in turn."""
        self.run(
            """(panel) => new Promise((done) => {
                const { link } = shmring.panels[panel], before = link.on.text;
                link.on.text = (message) => {
                    if (message.type !== "pixel" || message.y !== -1) return before(message);
                    link.on.text = before;
                    done();
                };
                link.send({ type: "pixel", y: -1, x: -1 });
            })""",
            panel,
        )
        return self

    @property
    def hash(self) -> str:
        """What the address keeps: asked of the page itself, since Playwright hears of it later."""
        return self.run("location.hash")

    def view(self, expression: str, panel: int = 0):
        return self.run(f"shmring.panels[{panel}].view.{expression}")

    def pixels(self, panel: int = 0) -> np.ndarray:
        """Show a picture one to one, and return what is on the canvas there: (height, width, 3)."""
        self.view("zoomTo(1)", panel)
        self.run(f"shmring.panels[{panel}].want()")
        step = f"shmring.panels[{panel}].last.step"
        self.wait(f"{step}[0] === 1 && {step}[1] === 1")
        size, values = self.run(
            f"""(panel) => {{
                const {{ viewport, picture }} = shmring.panels[panel].view;
                shmring.panels[panel].view.draw();
                const [height, width] = viewport.full;
                const [x0, y0] = viewport.panelAt([0, 0]), [x1, y1] = viewport.panelAt([width, height]);
                const size = [Math.abs(x1 - x0), Math.abs(y1 - y0)];
                return [size, {BASE64}(picture.read(Math.min(x0, x1), Math.min(y0, y1), ...size))];
            }}""",
            panel,
        )
        return rgb(values, *size)

    def canvas(self, panel: int = 0) -> np.ndarray:
        """The whole canvas: (height, width, 3)."""
        width, height, values = self.run(
            f"""(panel) => {{
                const {{ width, height, pixels }} = shmring.panels[panel].view.pixels();
                return [width, height, {BASE64}(pixels)];
            }}""",
            panel,
        )
        return rgb(values, width, height)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def banner(self, panel: int = 0):
        return self.page.locator(".panel").nth(panel).locator(".banner")
