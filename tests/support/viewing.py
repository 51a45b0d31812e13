"""A server of `shmring.view` in a thread, and programs that behave as a page does."""

from __future__ import annotations

import contextlib
import json
import struct
import threading
from http.client import HTTPConnection
from typing import Any

import numpy as np

from support.waiting import PATIENCE, wait_until


def connect(stack: contextlib.ExitStack, port: int, path: str, headers: dict[str, str]):
    """Open a WebSocket, closed with the stack."""
    from websockets.sync.client import connect

    address = f"ws://127.0.0.1:{port}{path}"
    socket = connect(address, additional_headers=headers, compression=None, max_size=None)
    return stack.enter_context(socket)


class Served:
    """A view that is served; `address` without a slash at its end."""

    def __init__(self, app, *, view=None, prefix: str = "", **settings) -> None:
        from shmring.view._server import make_server

        self.view = view or app
        self._server = make_server(app, port=0, **settings)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        wait_until(lambda: self._server.started, "the server has started")
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.prefix = prefix
        self._sockets = contextlib.ExitStack()

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.view.token}"}

    def get(self, path: str = "/", headers: dict[str, str] | None = None, method: str = "GET"):
        """Ask over HTTP; status, headers, body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, self.prefix + path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def connect(self, path: str, headers: dict[str, str] | None = None):
        """Open a WebSocket, closed with the server."""
        headers = self.bearer if headers is None else headers
        return connect(self._sockets, self.port, self.prefix + path, headers)

    def page(self, ring: str, **want) -> Page:
        """Open a ring, as a page does; with `want`, say so."""
        page = Page(self.connect(f"/ws/ring?name={ring}"))
        if want:
            page.want(**want)
        return page

    def rings(self) -> Page:
        return Page(self.connect("/ws/rings"))

    def stop(self) -> None:
        """End it, and then the pages. May be called twice."""
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self.view.close()
        for hub in self.view._hubs.values():
            hub.join(PATIENCE)
        self._sockets.close()


class Page:
    """The far end of a WebSocket."""

    def __init__(self, socket) -> None:
        self.socket = socket
        self._kept: list[dict[str, Any]] = []  # messages that came while another one was awaited

    def say(self, type: str, **message) -> None:
        self.socket.send(json.dumps({"type": type, **message}))

    def want(self, **want) -> None:
        self.say("want", **{"width": 4096, "height": 4096, **want})

    def next(self, timeout: float = PATIENCE):
        """The next message: a dict, or (header, payload)."""
        message = self.socket.recv(timeout)
        if isinstance(message, str):
            return json.loads(message, parse_constant=_no_constant)
        return unpack(message)

    def message(self, type: str, timeout: float = PATIENCE) -> dict[str, Any]:
        """The next message of a type; frames that come before it are acknowledged."""
        for place, kept in enumerate(self._kept):
            if kept["type"] == type:
                return self._kept.pop(place)
        while True:
            message = self.next(timeout)
            if isinstance(message, dict) and message["type"] == type:
                return message
            if isinstance(message, dict):
                self._kept.append(message)
            else:
                self.say("ack", seq=message[0]["seq"])

    def frame(self, *, ack: bool = True, timeout: float = PATIENCE):
        """The next frame: header and payload."""
        while isinstance(message := self.next(timeout), dict):
            self._kept.append(message)
        if ack:
            self.say("ack", seq=message[0]["seq"])
        return message

    def silent(self) -> bool:
        """Whether nothing comes that was due: a question that is answered after all that was sent before."""
        self.say("pixel", y=0, x=0)
        answer = self.next()
        return isinstance(answer, dict) and answer["type"] == "pixel"


def _no_constant(word: str):
    raise ValueError(f"not JSON: {word}")


def unpack(message: bytes) -> tuple[dict[str, Any], np.ndarray | bytes]:
    """The header and the payload of a frame."""
    (length,) = struct.unpack_from("<I", message)
    header = json.loads(message[4 : 4 + length], parse_constant=_no_constant)
    begin = -(-(4 + length) // 16) * 16
    assert not message[4 + length : begin].strip(b"\0")
    payload = message[begin:]
    if header["kind"] == "image" and header["encoding"] == "raw":
        return header, np.frombuffer(payload, header["dtype"]).reshape(header["shape"])
    if header["kind"] == "signal":
        return header, np.frombuffer(payload, header["dtype"])
    return header, payload


def traces(header, payload):
    """The lowest and highest of each column as (channels, 2, points), and the spectrum."""
    count = header["channels"] * 2 * header["points"]
    columns = payload[:count].reshape(header["channels"], 2, header["points"])
    return columns, payload[count:].reshape(-1, header["fft_points"] or 1)
