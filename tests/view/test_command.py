"""`shmring view` as a program: what it prints, how it ends, and what it survives."""

import gc
import re
import signal
import socket
import sys
import warnings
from contextlib import ExitStack
from http.client import HTTPConnection
from urllib.parse import urlsplit

import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs the extra view")

from support.viewing import Page, connect
from support.waiting import PATIENCE, wait_until


class Viewer:
    """A `shmring view` that runs."""

    def __init__(self, process) -> None:
        self.process = process
        self.sockets = ExitStack()
        self.line = process.stdout.readline().decode()
        self.url = urlsplit(re.search(r"http://\S+", self.line)[0])
        self.token = self.url.query.removeprefix("token=")
        self.bearer = {"Authorization": f"Bearer {self.token}"}

    def connect(self, path: str) -> Page:
        return Page(connect(self.sockets, self.url.port, path, self.bearer))

    def end(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        return code, self.process.stderr.read().decode()


@pytest.fixture
def viewer(command, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)

    with ExitStack() as stack:

        def start(*words):
            shown = Viewer(command("view", "--port", "0", *words, fresh=True))
            stack.enter_context(shown.sockets)
            return shown

        yield start


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_shows_rings_until_a_signal_ends_it_quietly(viewer, make, number, code):
    ring = make(shape=(20, 24), dtype="u1")
    shown = viewer()
    assert shown.line == f"shmring view: http://127.0.0.1:{shown.url.port}/?token={shown.token}\n"
    with ring.producer() as out:
        out.put(np.ones((20, 24), "u1"))
        listed, page = shown.connect("/ws/rings"), shown.connect(f"/ws/ring?name={ring.name}")
        assert ring.name in [one["id"] for one in listed.next()["rings"]]
        page.want()
        assert page.frame()[1][0, 0] == 1
        assert shown.end(number) == (code, "")
        assert not ring.stats().consumers


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_signal_before_it_serves_ends_it_quietly(monkeypatch, error):
    import uvicorn

    import shmring.view
    from shmring.view._server import make_server

    def interrupt(config):
        raise error

    monkeypatch.setattr(uvicorn.Config, "get_loop_factory", interrupt)
    server = make_server(shmring.view.app())
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(error):
            server.run()
        gc.collect()
    assert [str(one.message) for one in warned] == []


def test_a_page_that_does_not_read_does_not_delay_the_end(viewer, make):
    ring = make(shape=(3000, 3000), dtype="u1", slots=2)
    shown = viewer(ring.name)
    with ring.producer() as out:
        out.put(np.ones((3000, 3000), "u1"))
        page = shown.connect(f"/ws/ring?name={ring.name}")
        page.socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        page.want()
        quick = shown.connect(f"/ws/ring?name={ring.name}")
        quick.want(width=10, height=10)
        quick.frame()
        assert shown.end(signal.SIGINT) == (130, "")


@pytest.mark.event("the ring that a page shows closes, dies, is cut or replaced")
def test_a_file_that_is_cut_ends_no_other_view(viewer, make):
    cut, whole = make(shape=(1000, 1000), dtype="u1"), make(shape=(20, 24), dtype="u1")
    shown = viewer()
    with cut.producer() as out, whole.producer() as other:
        out.put(np.zeros((1000, 1000), "u1"))
        page = shown.connect(f"/ws/ring?name={cut.name}")
        page.want(width=100)
        page.frame()
        page.say("pause")
        page.silent()
        cut_file = f"/dev/shm/{cut.name}"
        size = cut.nbytes
        with open(cut_file, "r+b") as file:
            file.truncate(4096)
        page.say("resume")
        said = page.message("end")
        assert (said["state"], "cut" in said["message"] or "damaged" in said["message"]) == ("damaged", True)
        other.put(np.ones((20, 24), "u1"))
        second = shown.connect(f"/ws/ring?name={whole.name}")
        second.want()
        assert second.frame()[1][0, 0] == 1
        with open(cut_file, "r+b") as file:
            file.truncate(size)
    assert shown.end(signal.SIGINT) == (130, "")


def test_rings_of_others_that_wait_for_nothing(viewer, name):
    """A name without a ring is no mistake: the page waits for it."""
    shown = viewer(name)
    assert shown.connect("/ws/rings").next()["rings"][0]["state"] == "missing"


def test_a_port_in_use(cli):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = cli("view", "--port", str(port), "--no-browser")
    assert (code, out) == (1, "")
    assert f"port {port} of 127.0.0.1 is in use" in err
    assert "--port 0" in err


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid", "a b", "", "ä" * 99, "localhost:1"])
def test_a_host_that_is_not_this_machine(cli, host):
    code, _, err = cli("view", "--host", host, "--no-browser")
    assert code == 1
    assert err.startswith("shmring: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", ["--port 70000", "--port x", "--allow-record /nowhere", "a/b", "--host"])
def test_wrong_usage(cli, words):
    assert cli("view", *words.split())[0] == 2


def test_listening_elsewhere_warns(viewer):
    shown = viewer("--host", "0.0.0.0", "--allow-host", "camera.example")
    said = shown.process.stderr.readline().decode()
    assert said.startswith("shmring view: everyone who can reach ")
    connection = HTTPConnection("127.0.0.1", shown.url.port, timeout=PATIENCE)
    for host, status in (("camera.example", 200), (socket.gethostname(), 200), ("other.example", 403)):
        connection.request("GET", "/", headers={"Host": host, **shown.bearer})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.close()


def test_a_browser_gets_a_ticket_and_never_the_token(monkeypatch, tmp_path, command):
    """Other users see the arguments of a browser."""
    arguments = tmp_path / "arguments"
    browser = tmp_path / "browser"
    browser.write_text(f"""#!/bin/sh
printf %s "$1" >{arguments}.part
mv {arguments}.part {arguments}
""")
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    shown = Viewer(command("view", "--port", "0", fresh=True))
    wait_until(arguments.exists, "the browser was started")
    url = urlsplit(arguments.read_text())
    assert (url.port, url.path) == (shown.url.port, "/")
    assert shown.token not in url.query
    connection = HTTPConnection("127.0.0.1", shown.url.port, timeout=PATIENCE)
    connection.request("GET", f"/?{url.query}")
    assert connection.getresponse().status == 303
    connection.close()


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "websockets"])
def test_without_the_extra(cli, monkeypatch, missing):
    for module in [one for one in sys.modules if one.startswith(("shmring.view", "uvicorn.protocols"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delattr("shmring.view", raising=False)
    for module in [one for one in sys.modules if one == missing or one.startswith(missing + ".")]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, missing, None)
    code, _, err = cli("view", "--no-browser")
    assert code == 1
    assert missing in err
    assert 'pip install "shmring[view]"' in err
