#!/usr/bin/env bash
# ophyd-async: what the documents say of a detector that writes waveforms, arrays with one axis.
#
# Expected: the DataKey of frames of 1024 samples has dtype "array", as its shape [1, 1024] says.
# Seen: StreamResourceDataProvider looks at the number of axes of one collection and takes "array" for two and more.
#   A waveform is described as dtype "number" with shape [1, 1024]; with collections_per_event=2 the same frames
#   are an "array". bluesky and event-model accept the document.
# Versions: ophyd-async 0.21.3, event-model 1.24.0, CPython 3.11. Seen 2026-11-30:
#   scalar: number [1]
#   waveform: number [1, 1024]
#   waveform, 2 per event: array [2, 1024]
#   image: array [1, 480, 640]
# Hurts: callbacks that choose by dtype (tables, plots of scalars, exporters) take a waveform for a number. Go by
#   the shape.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check ophyd-async==0.21.3 event-model==1.24.0 numpy==2.4.6
"$work/venv/bin/python" - <<'P'
import asyncio

from ophyd_async.core import StreamResourceDataProvider, StreamResourceInfo, soft_signal_r_and_setter


async def described(shape, per_event=1):
    written, _ = soft_signal_r_and_setter(int)
    info = StreamResourceInfo(
        data_key="det", shape=shape, chunk_shape=(1, *shape), dtype_numpy="<f4", parameters={"dataset": "/data"}
    )
    provider = StreamResourceDataProvider("file://localhost/take.h5", [info], "application/x-hdf5", written)
    key = (await provider.make_datakeys(per_event))["det"]
    return key["dtype"], key["shape"]


async def main():
    seen = {
        "scalar": await described(()),
        "waveform": await described((1024,)),
        "waveform, 2 per event": await described((1024,), 2),
        "image": await described((480, 640)),
    }
    for what, (dtype, shape) in seen.items():
        print(f"{what}: {dtype} {shape}")
    return [dtype for dtype, _ in seen.values()] == ["number", "number", "array", "array"]


raise SystemExit(not asyncio.run(main()))
P
