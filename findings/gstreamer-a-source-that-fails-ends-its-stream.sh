#!/usr/bin/env bash
# GStreamer: what an appsink says of a stream whose source has failed.
#
# Expected: the end of the stream (is_eos()) means that the stream is complete; after an error upstream there is
#   none, and pull_sample() returns nothing because the pipeline fails.
# Seen: a source whose data are refused downstream posts an error on the bus, and sends the end of the stream as well.
#   The appsink says is_eos() and returns None from then on, as after the last picture of a film. The two cases
#   differ only in the error message on the bus.
# Versions: GStreamer 1.22.0, python3-gi 3.42.2, gir1.2-gst-plugins-base-1.0 and gstreamer1.0-plugins-base of Debian
#   12, which have to be there. Seen 2026-11-30:
#   complete: 5 pictures, is_eos True, error on the bus: no
#   broken off: 2 pictures, is_eos True, error on the bus: yes
# Hurts: recorders that loop until is_eos(): a recording that was cut off counts as complete. Ask the bus for an
#   error before you believe the end.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
/usr/bin/python3 - <<'P'
import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
from gi.repository import Gst, GstApp

Gst.init(None)


def seen(name, source):
    pipeline = Gst.parse_launch(f"{source} ! appsink name=sink sync=false")
    sink = pipeline.get_by_name("sink")
    pipeline.set_state(Gst.State.PLAYING)
    pictures = 0
    while sink.try_pull_sample(5 * Gst.SECOND):
        pictures += 1
    error = pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)
    said = f"{name}: {pictures} pictures, is_eos {sink.is_eos()}, error on the bus: {'yes' if error else 'no'}"
    pipeline.set_state(Gst.State.NULL)
    return said


lines = [
    seen("complete", "videotestsrc num-buffers=5"),
    seen("broken off", "videotestsrc num-buffers=5 ! identity error-after=3"),
]
print(*lines, sep="\n")
raise SystemExit(
    lines
    != [
        "complete: 5 pictures, is_eos True, error on the bus: no",
        "broken off: 2 pictures, is_eos True, error on the bus: yes",
    ]
)
P
