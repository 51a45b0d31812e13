"""Writes the colour maps of the viewer: python docs/drawings/colormaps.py (needs cmap 0.8 or newer)."""

import base64
from pathlib import Path

import numpy as np
from cmap import Colormap

TARGET = Path(__file__).parents[2] / "shmring" / "view" / "static" / "colormaps.js"
NAMES = {
    "gray": "matlab:gray",
    "viridis": "bids:viridis",
    "magma": "bids:magma",
    "inferno": "bids:inferno",
    "plasma": "bids:plasma",
    "cividis": "cividis:cividis",
    "turbo": "google:turbo",
    "hot": "matlab:hot",
    "cubehelix": "cubehelix:cubehelix",
    "coolwarm": "matplotlib:coolwarm",
    "twilight": "matplotlib:twilight",
}
HEAD = """\
// The colour maps: 256 colours of 3 bytes each, in base64. Made by docs/drawings/colormaps.py from cmap.
"""
FOOT = """\

export const NAMES = Object.keys(TABLES);

/** The 768 bytes of a colour map. */
export function table(name) {
  return Uint8Array.from(atob(TABLES[name] ?? TABLES.gray), (letter) => letter.charCodeAt(0));
}
"""


def encoded(name: str) -> str:
    colours = np.asarray(Colormap(name).lut(256))[:, :3]
    return base64.b64encode(np.rint(colours * 255).astype("u1").tobytes()).decode()


if __name__ == "__main__":
    lines = [f'  {short}: "{encoded(name)}",\n' for short, name in NAMES.items()]
    TARGET.write_text(HEAD + "const TABLES = {\n" + "".join(lines) + "};\n" + FOOT)
