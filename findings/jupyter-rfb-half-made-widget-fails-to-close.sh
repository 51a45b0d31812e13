#!/usr/bin/env bash
# jupyter_rfb: a RemoteFrameBuffer subclass whose __init__ refuses an argument before it calls super().__init__().
#
# Expected: the caller gets the ValueError, and nothing else happens: as with any class, and as with the widgets of
#   ipywidgets, whose __del__ closes what is half made without a word.
# Seen: __del__ calls close(), which sends a "close" event through a handler whose settings are made in __init__: a
#   TypeError about NoneType and int, "Exception ignored in" on stderr, at the moment when the object is collected.
# Versions: jupyter_rfb 1.0.2, ipywidgets 8.1.9, anywidget 0.11.0, numpy 2.4.6, CPython 3.11. Seen 2026-11-30:
#   ipywidgets: ValueError
#   jupyter_rfb: ValueError, then TypeError in __del__
# Hurts: views that check their arguments first: users see a traceback that has nothing to do with their mistake, and
#   test suites that turn unraisable exceptions into errors fail in some later test. Check before the constructor.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check jupyter_rfb==1.0.2 ipywidgets==8.1.9 anywidget==0.11.0 \
    numpy==2.4.6
"$work/venv/bin/python" - <<'P'
import gc
import sys

import ipywidgets
import jupyter_rfb


def refusing(base):
    class View(base):
        def __init__(self, width):
            if width < 1:
                raise ValueError(width)
            super().__init__()

    return View


def seen(base):
    """What comes of a refused argument: for the caller, and when the object is collected."""
    unraisable = []
    sys.unraisablehook = lambda found: unraisable.append(f"{found.exc_type.__name__} in __del__")
    try:
        refusing(base)(0)
    except ValueError:
        caller = "ValueError"
    gc.collect()
    return ", then ".join([caller, *unraisable])


found = [f"ipywidgets: {seen(ipywidgets.DOMWidget)}", f"jupyter_rfb: {seen(jupyter_rfb.RemoteFrameBuffer)}"]
print(*found, sep="\n")
raise SystemExit(found != ["ipywidgets: ValueError", "jupyter_rfb: ValueError, then TypeError in __del__"])
P
