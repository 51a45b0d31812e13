"""What goes over the two WebSockets of a page."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from shmring import ShmringError
from shmring._words import clean
from shmring.view import _images
from shmring.view._clients import Client, Shot
from shmring.view._hub import Hub
from shmring.view._recordings import Recordings
from shmring.view._rings import INTERVAL, Watcher
from shmring.view._wants import BadMessage, Want, numbers, parse, want_of
from shmring.view._wire import plain, text

__all__ = ["RingSession", "RingsSession"]

LONGEST = 1 << 16  # characters of a message from a page
TOO_LONG, UNSUPPORTED, POLICY = 1009, 1003, 1008
GONE = (WebSocketDisconnect, RuntimeError)  # what sending to a page raises that has left
MOST_MISTAKES = 20  # of a page, before its connection is closed


class Session:
    """One WebSocket: sends what it is given, and reads what comes, until either side ends."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._mistakes = 0

    async def run(self) -> None:
        """Serve the connection until it ends."""
        with contextlib.suppress(*GONE):
            await self._socket.accept()
            await self._serve()

    async def _serve(self) -> None:
        tasks = [asyncio.ensure_future(self._receive()), asyncio.ensure_future(self._feed())]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive(self) -> None:
        """Read messages; a handler that only sends would not notice that the page has left."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            said = message.get("text")
            if said is None:
                await self._socket.close(UNSUPPORTED, "messages are text")
                return
            if len(said) > LONGEST:
                await self._socket.close(TOO_LONG, "this message is too long")
                return
            try:
                await self._handle(parse(said))
            except BadMessage as error:
                self._mistakes += 1
                if self._mistakes > MOST_MISTAKES:
                    await self._socket.close(POLICY, "too many messages that are not understood")
                    return
                await self._send({"type": "error", "message": str(error)})

    async def _feed(self) -> None:
        raise NotImplementedError

    async def _handle(self, message: dict[str, Any]) -> None:
        raise BadMessage(f"nobody handles messages of type {clean(message['type'])[:40]!r} here")

    async def _send(self, message: dict[str, Any]) -> None:
        await self._socket.send_text(text(message))


class RingsSession(Session):
    """The list of rings, every second."""

    def __init__(self, socket: WebSocket, watcher: Watcher, recordings: Recordings) -> None:
        super().__init__(socket)
        self._watcher, self._recordings = watcher, recordings

    async def _feed(self) -> None:
        while True:
            try:
                found = await self._watcher.look()
            except OSError as error:
                said = f"the rings cannot be listed: {error.strerror}"
                await self._send({"type": "error", "message": said})
            else:
                may_record = self._recordings.folder is not None
                await self._send({"type": "rings", "record": may_record, **found})
            await asyncio.sleep(INTERVAL)


class RingSession(Session):
    """The frames of one ring."""

    def __init__(self, socket: WebSocket, hub: Hub, recordings: Recordings) -> None:
        super().__init__(socket)
        self._hub, self._recordings = hub, recordings
        self._queue: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._client = Client(asyncio.get_running_loop(), self._queue.put_nowait)

    @staticmethod
    async def refuse(socket: WebSocket, message: str) -> None:
        """Say why there is nothing to see, and close."""
        with contextlib.suppress(*GONE):
            await socket.accept()
            await socket.send_text(text({"type": "error", "message": message}))
            await socket.close(POLICY, "no such ring")

    async def run(self) -> None:
        """Serve the connection until it ends."""
        self._hub.add(self._client)
        try:
            await super().run()
        finally:
            self._hub.remove(self._client)

    async def _feed(self) -> None:
        follower = asyncio.ensure_future(self._follow_recording())
        try:
            while True:
                message = await self._queue.get()
                if isinstance(message, str):
                    await self._socket.send_text(message)
                else:
                    await self._socket.send_bytes(message)
        finally:
            follower.cancel()

    async def _follow_recording(self) -> None:
        told = None
        while True:
            status = self._recordings.status(self._hub.name)
            if status is not None and status != told:
                told = status
                self._queue.put_nowait(text(status))
            await asyncio.sleep(INTERVAL / 4)

    # ---- what the page says

    async def _handle(self, message: dict[str, Any]) -> None:
        handler = HANDLERS.get(message["type"])
        if handler is None:
            await super()._handle(message)
            return
        answer = handler(self, message)
        if inspect.isawaitable(answer):
            answer = await answer
        if answer is not None:
            await self._send(answer)

    def _want(self, message: dict[str, Any]) -> None:
        def change() -> None:
            want = want_of(message, self._client.want or Want())
            if want != self._client.want:
                self._client.change(want)

        self._hub.change(change)

    def _pause(self, message: dict[str, Any]) -> None:
        self._hub.change(lambda: self._client.pause(steps=0))

    def _resume(self, message: dict[str, Any]) -> None:
        self._hub.change(self._client.resume)

    def _step(self, message: dict[str, Any]) -> None:
        self._hub.change(lambda: self._client.pause(steps=1))

    def _ack(self, message: dict[str, Any]) -> None:
        self._hub.change(lambda: self._client.acknowledge(message.get("seq")))

    def _pixel(self, message: dict[str, Any]) -> dict[str, Any]:
        y, x = (int(one) for one in numbers([message.get("y"), message.get("x")], "a pixel", 2))
        shot, array = self._on_show()
        value = None if shot is None or array is None else _images.pixel(array, shot.layout, y, x)
        shown = None if value is None else [plain(one) for one in value]
        return {"type": "pixel", "seq": shot.seq if shot else None, "y": y, "x": x, "value": shown}

    def _profile(self, message: dict[str, Any]) -> dict[str, Any]:
        begin = numbers(message.get("from"), "from", 2)
        end = numbers(message.get("to"), "to", 2)
        shot, array = self._on_show()
        if shot is None or array is None or not array.size or array.dtype.kind not in "biufc":
            return {"type": "profile", "seq": shot.seq if shot else None, "distance": [], "values": []}
        distance, values = _images.profile(array, shot.layout, (begin[0], begin[1]), (end[0], end[1]))
        with np.errstate(over="ignore"):  # of a longdouble
            shown = values.astype("f8").tolist()
        return {"type": "profile", "seq": shot.seq, "distance": distance.tolist(), "values": shown}

    def _on_show(self) -> tuple[Shot | None, np.ndarray[Any, Any] | None]:
        shot = self._client.shown
        return shot, None if shot is None else shot.array

    async def _record(self, message: dict[str, Any]) -> dict[str, Any] | None:
        try:
            await asyncio.to_thread(self._recordings.start, self._hub.name, message.get("path"))
        except (ValueError, OSError, ImportError, ShmringError) as error:
            refused = {"type": "recording", "path": None, "frames": 0, "lost": 0, "state": "refused"}
            return {**refused, "message": clean(str(error))}
        return None

    def _record_stop(self, message: dict[str, Any]) -> None:
        self._recordings.stop(self._hub.name)


HANDLERS = {
    "want": RingSession._want,
    "pause": RingSession._pause,
    "resume": RingSession._resume,
    "step": RingSession._step,
    "ack": RingSession._ack,
    "pixel": RingSession._pixel,
    "profile": RingSession._profile,
    "record": RingSession._record,
    "record_stop": RingSession._record_stop,
}
