#!/usr/bin/env bash
# playwright with Chromium: how many device pixels an element has, in a context with device_scale_factor=2.
#
# Expected: ResizeObserver's devicePixelContentBoxSize is devicePixelRatio times the size in CSS pixels, as in a
#   browser on a screen of twice the density. That is what the property is for: a canvas of just that many pixels.
# Seen: devicePixelRatio says 2, devicePixelContentBoxSize has the CSS pixels unchanged. In a Chromium that was
#   started with --force-device-scale-factor=2 they are twice as many.
# Versions: playwright 1.65.2, Chromium 156 (Debian), headless. Needs `chromium` in PATH (CHROMIUM=... for another).
#   Seen 2026-11-30:
#   device_scale_factor=2: ratio 2, 300 CSS pixels, 300 device pixels
#   --force-device-scale-factor=2: ratio 2, 300 CSS pixels, 600 device pixels
# Hurts: tests of plots, maps and pictures on phones and dense screens: in them a canvas that asks for its device
#   pixels is drawn with a quarter of the pixels that users see. Where the two disagree, multiply by the ratio.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check playwright==1.65.2
cat >"$work/seen.py" <<'P'
import os
import shutil

from playwright.sync_api import sync_playwright

MEASURE = """() => new Promise((done) => new ResizeObserver(([entry]) =>
    done([devicePixelRatio, entry.contentRect.width, entry.devicePixelContentBoxSize[0].inlineSize])
).observe(document.querySelector("canvas"), { box: "device-pixel-content-box" }))"""
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
ROOT = ["--no-sandbox"] if os.geteuid() == 0 else []


def measure(name, flags, **context):
    browser = starter.chromium.launch(executable_path=CHROMIUM, args=[*ROOT, *flags])
    page = browser.new_context(**context).new_page()
    page.set_content("<canvas></canvas>")
    found = page.evaluate(MEASURE)
    browser.close()
    print(name + ": ratio {}, {} CSS pixels, {} device pixels".format(*found))
    return found


with sync_playwright() as starter:
    emulated = measure("device_scale_factor=2", [], device_scale_factor=2)
    real = measure("--force-device-scale-factor=2", ["--force-device-scale-factor=2"], no_viewport=True)
raise SystemExit(not (emulated == [2, 300, 300] and real == [2, 300, 600]))
P
"$work/venv/bin/python" "$work/seen.py"
