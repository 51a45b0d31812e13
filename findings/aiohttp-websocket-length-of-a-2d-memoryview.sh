#!/usr/bin/env bash
# aiohttp: WebSocketResponse.send_bytes(memoryview(image)) of a two-dimensional image.
#
# Expected: send_bytes takes bytes, bytearray and memoryview, so it sends the bytes of any contiguous memoryview, as
#   websockets and sockets do; or it refuses one that is not flat.
# Seen: the length in the frame's header is len(view), which counts rows, while all bytes follow. The client reads
#   the first few bytes as the message and takes the picture behind them for the next frame's header: the
#   connection ends with a protocol error. memoryview(image).cast("B") is right.
# Versions: aiohttp 3.14.5, numpy 2.4.6, CPython 3.11. Seen 2026-11-29:
#   flat: 4096 bytes arrive
#   two-dimensional: 64 bytes arrive
# Hurts: live views that send frames of a ring or of a camera without a copy: every image has two axes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check aiohttp==3.14.5 numpy==2.4.6
"$work/venv/bin/python" - <<'P'
import asyncio

import aiohttp
import numpy as np
from aiohttp import web

image = np.full((64, 64), 0x81, "u1")


async def serve(request):
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    view = memoryview(image)
    await socket.send_bytes(view if request.query_string == "2d" else view.cast("B"))
    await socket.close()
    return socket


async def main():
    app = web.Application()
    app.router.add_get("/", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    seen = []
    async with aiohttp.ClientSession() as session:
        for name, query in (("flat", "flat"), ("two-dimensional", "2d")):
            async with session.ws_connect(f"http://127.0.0.1:{port}/?{query}") as socket:
                message = await asyncio.wait_for(socket.receive(), 10)
                size = len(message.data) if message.type is aiohttp.WSMsgType.BINARY else message.type.name
                seen.append(f"{name}: {size} bytes arrive")
    await runner.cleanup()
    print(*seen, sep="\n")
    return seen == ["flat: 4096 bytes arrive", "two-dimensional: 64 bytes arrive"]


raise SystemExit(not asyncio.run(main()))
P
