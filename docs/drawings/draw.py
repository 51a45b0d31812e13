"""Draws the pictures of these pages: python docs/drawings/draw.py writes them beside itself."""

from html import escape
from pathlib import Path

HERE = Path(__file__).parent

INK, FAINT, PAPER = "#1f2933", "#61707f", "#ffffff"
BLUE, GREEN, AMBER, RED, GREY = "#dbeafe", "#dcfce7", "#fef3c7", "#fee2e2", "#eef1f4"

STYLE = f"""
text {{ font-family: system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; font-size: 13px; fill: {INK} }}
.small {{ font-size: 11px }} .faint {{ fill: {FAINT} }} .bold {{ font-weight: 600 }}
.code {{ font-family: ui-monospace, 'DejaVu Sans Mono', monospace; font-size: 11px }}
.line {{ stroke: {INK}; stroke-width: 1.3; fill: none }}
.thin {{ stroke: {FAINT}; stroke-width: 1; fill: none }}
"""


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, fill: str, *, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4" fill="{fill}" '
        f'stroke="{INK}"{dashes}/>'
    )


def labelled_box(
    x: float, y: float, width: float, height: float, fill: str, title: str, *lines: str, kind: str = "small"
) -> str:
    """A box with a title and lines of text in its middle."""
    first = y + height / 2 - 8 * len(lines) + 5
    rows = [text(x + width / 2, first, title, "bold")]
    rows += [text(x + width / 2, first + 16 * n, line, kind) for n, line in enumerate(lines, 1)]
    return box(x, y, width, height, fill) + "".join(rows)


def arrow(*points: tuple[float, float], words: str = "", at: tuple[float, float] = (0, 0)) -> str:
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    line = f'<polyline points="{path}" class="line" marker-end="url(#head)"/>'
    return line + (text(*at, words, "small") if words else "")


def picture(width: int, height: int, title: str, *parts: str) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img">\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        f'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{INK}"/></marker></defs>\n'
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>\n'
    )
    return head + "\n".join(parts) + "\n</svg>\n"


# ---- one stream, three kinds of consumers


def stream() -> str:
    """A producer, its last frames, and what consumers with different policies get of them."""
    left, top, cell = 232, 118, 56
    numbers = [str(number) for number in range(41, 49)]
    frames = [
        box(left + cell * n, top, cell, 64, RED if number == "48" else BLUE)
        + text(left + cell * (n + 0.5), top + 37, number, "code")
        for n, number in enumerate(numbers)
    ]

    def under(number: int) -> float:
        return left + cell * (number - 41 + 0.5)

    def consumer(y: float, title: str, *lines: str) -> str:
        return labelled_box(730, y, 200, 76, GREEN, title, *lines)

    return picture(
        950,
        300,
        "One producer, a ring of frames in shared memory, and three consumers with different policies",
        text(left + 4 * cell, 30, "a ring of 8 frames in shared memory", "bold"),
        labelled_box(20, 108, 150, 84, BLUE, "camera", "writes frame 48", "in place"),
        arrow((170, 150), (left - 3, 150)),
        *frames,
        text(under(41), top - 10, "oldest", "small faint"),
        text(under(47), top - 10, "newest", "small faint"),
        text(under(48), top + 80, "being written", "small faint"),
        consumer(20, "recorder", "lossless: every frame, in order;", "the camera waits if it must"),
        consumer(112, "viewer", "lossy: the newest frame;", "counts those that it skips"),
        consumer(204, "workers", "a group: each frame goes", "to one of them"),
        arrow((under(43), top), (under(43), 58), (727, 58), words="reads 43", at=(under(43) + 36, 52)),
        arrow((under(47), top + 64), (under(47), 206), (708, 206), (708, 150), (727, 150)),
        text(under(47) - 10, 200, "reads 47", "small", "end"),
        arrow(
            (under(44), top + 64), (under(44), 232), (727, 232), words="reads 44", at=(under(44) + 36, 226)
        ),
        arrow(
            (under(42), top + 64), (under(42), 258), (727, 258), words="reads 42", at=(under(42) + 36, 252)
        ),
    )


# ---- the block

BLOCK_LEFT, BLOCK_WIDTH = 232, 456
CELL = 48


def cells(left: float, y: float, height: float, words: list[str], colours: dict[str, str]) -> str:
    """A row of cells, each with a word in it."""
    drawn = [
        box(left + CELL * n, y, CELL, height, colours.get(word, GREEN))
        + text(left + CELL * (n + 0.5), y + height / 2 + 4, word, "code")
        for n, word in enumerate(words)
    ]
    return "".join(drawn)


def ring(left: float, y: float, entries: list[str], slots: list[str], colours: dict[str, str]) -> str:
    """Entries, `position→slot`, above the slots that they name."""
    lines = [
        f'<line x1="{left + CELL * (n + 0.5):g}" y1="{y + 40:g}" '
        f'x2="{left + CELL * (int(entry[-1]) + 0.5):g}" y2="{y + 84:g}" class="thin"/>'
        for n, entry in enumerate(entries)
    ]
    return cells(left, y, 40, entries, colours) + cells(left, y + 84, 56, slots, colours) + "\n".join(lines)


def region(y: float, height: float, title: str) -> str:
    return box(BLOCK_LEFT, y, BLOCK_WIDTH, height, PAPER) + text(
        BLOCK_LEFT + 8, y + 17, title, "bold small", "start"
    )


def words_of(y: float, words: list[str], width: float) -> str:
    left = BLOCK_LEFT + 60
    drawn = [
        box(left + (width + 8) * n, y, width, 22, AMBER)
        + text(left + (width + 8) * n + width / 2, y + 15, word, "code")
        for n, word in enumerate(words)
    ]
    return "".join(drawn)


def block() -> str:
    """The block in shared memory, who writes what in it, and who reads it."""
    # A ring of eight slots. A consumer holds frame 11 in slot 3, so frames 19 to 21 moved on by one slot,
    # and entry 6, the next one, has the held slot for now. Frame 21 is being written.
    entries = ["16→0", "17→1", "18→2", "19→4", "20→5", "21→6", "22→3", "15→7"]
    slots = ["16", "17", "18", "11", "19", "20", "21", "15"]
    colours = {"11": AMBER, "21": RED, "21→6": RED, "22→3": GREY}
    right = BLOCK_LEFT + 60 + 8 * CELL
    return picture(
        920,
        520,
        "One block of shared memory between a producer and its consumers",
        text(460, 24, "/dev/shm/camera, one block of shared memory", "bold"),
        box(BLOCK_LEFT - 12, 36, BLOCK_WIDTH + 24, 400, GREY),
        region(48, 44, "identity, geometry, schema"),
        text(BLOCK_LEFT + 8, 82, "written once, before the block has a name", "small faint", "start"),
        region(100, 62, "hot words"),
        words_of(128, ["head", "claimed", "active", "events"], 86),
        region(170, 62, "places, one for each consumer"),
        words_of(198, ["counters", "label", "state", "cursor"], 86),
        region(240, 80, "entries"),
        text(right, 257, "position→slot; also stamp", "small faint", "end"),
        region(328, 98, "slots"),
        text(right, 422, "each with a record: seq, timestamp, meta, pins", "small faint", "end"),
        ring(BLOCK_LEFT + 60, 272, entries, slots, colours),
        labelled_box(
            20,
            100,
            154,
            324,
            BLUE,
            "Producer",
            "claims a position,",
            "writes the frame in place,",
            "publishes it",
        ),
        arrow((174, 139), (BLOCK_LEFT + 58, 139), words="publish", at=(197, 132)),
        arrow((BLOCK_LEFT, 209), (176, 209), words="gate", at=(197, 202)),
        arrow((174, 292), (BLOCK_LEFT + 58, 292), words="mark", at=(197, 285)),
        arrow((174, 384), (BLOCK_LEFT + 58, 384), words="write", at=(197, 377)),
        box(744, 100, 156, 324, GREEN),
        text(822, 126, "Consumers", "bold"),
        text(822, 148, "(64 at most)", "small"),
        text(822, 200, "lossless: a cursor protects", "small"),
        text(822, 216, "what it has not read", "small"),
        text(822, 258, "groups: a word says which", "small"),
        text(822, 274, "member has the frame", "small"),
        text(822, 330, "lossy: a pin protects", "small"),
        text(822, 346, "the frame that it holds", "small"),
        text(822, 394, "all read in place;", "small"),
        text(822, 410, "observers take a copy", "small"),
        arrow((744, 209), (right - 14, 209), words="cursor", at=(722, 202)),
        arrow((744, 370), (right + 2, 370), words="pin", at=(722, 363)),
        arrow((right, 400), (742, 400), words="read", at=(722, 393)),
        labelled_box(
            20,
            450,
            880,
            52,
            GREY,
            "Linux",
            "futex: a wait sleeps    ·    locks on bytes of the file: a death frees what the process had",
        ),
    )


# ---- a claim


def panel(left: float, title: str, entries: str, slots: str, words: str, colours: dict[str, str]) -> str:
    """One moment of a ring of four slots; the colours are those of positions."""
    of_entries = {entry: colours[entry[:-2]] for entry in entries.split() if entry[:-2] in colours}
    return (
        text(left, 24, title, "bold small", "start")
        + ring(left, 40, entries.split(), slots.split(), colours | of_entries)
        + text(left, 204, words, "small", "start")
    )


def claim() -> str:
    """A claim, its publication, and a claim that goes round a held frame."""
    before, after = "4→0 5→1 6→2 3→3", "8→3 5→1 6→2 7→0"
    return picture(
        920,
        224,
        "A frame is claimed and published; the next claim exchanges slots to go round a held frame",
        panel(20, "1. Position 6 is claimed …", before, "4 5 6 3", "head 6 · claimed 7 · gate 4", {"6": RED}),
        panel(248, "2. … and published", before, "4 5 6 3", "head 7 · claimed 7 · gate 4", {}),
        panel(476, "3. A pin holds frame 3", before, "4 5 6 3", "head 7 · claimed 7 · gate 5", {"3": AMBER}),
        panel(
            704,
            "4. Position 7 takes slot 0",
            after,
            "7 5 6 3",
            "head 7 · claimed 8 · gate 5",
            {"3": AMBER, "7": RED, "8": GREY},
        ),
    )


# ---- the layers


def layers() -> str:
    """Which part of the code calls which: downwards, but for what need not be fast."""
    return picture(
        920,
        452,
        "The layers of shmring, from the command line to the kernel",
        labelled_box(20, 20, 190, 60, GREY, "your program"),
        labelled_box(230, 20, 250, 60, BLUE, "shmring/_cli/, shmring/_demo/", "the commands"),
        labelled_box(500, 104, 184, 56, BLUE, "shmring/recording/", "files and their formats"),
        labelled_box(704, 20, 196, 60, GREY, "your C or C++ program"),
        labelled_box(704, 184, 196, 60, GREY, "tests/provers/", "Relacy, kills, fuzzers"),
        labelled_box(
            130,
            184,
            554,
            60,
            BLUE,
            "shmring/*.py",
            "Ring, names, messages, statistics, observers, following a name",
        ),
        labelled_box(
            20, 268, 664, 60, GREEN, "src/", "Cython: Producer, Slot, Consumer, Frame, Batch; no protocol"
        ),
        labelled_box(
            20,
            352,
            880,
            60,
            AMBER,
            "shmring/include/shmring/",
            "C: the protocol, every atomic access, every call of the kernel",
        ),
        arrow((170, 80), (170, 182), words="each ring", at=(201, 130)),
        arrow((70, 80), (70, 266), words="each frame", at=(106, 130)),
        arrow((350, 80), (350, 182)),
        arrow((480, 50), (592, 50), (592, 102)),
        arrow((592, 160), (592, 182)),
        arrow((290, 244), (290, 266)),
        arrow((420, 268), (420, 246), words="what need not be fast", at=(490, 261)),
        arrow((290, 328), (290, 350)),
        arrow((802, 80), (802, 110), (692, 110), (692, 350)),
        arrow((802, 244), (802, 350), words="another atomic.h", at=(852, 300)),
        text(20, 438, "An arrow means that one calls the other.", "small faint", "start"),
    )


# ---- what happens to a frame on its way


def copies() -> str:
    """The way of a frame through a queue, a RingQueue and a ring, with every copy."""

    def way(y: float, title: str, *steps: tuple[str, str, str]) -> str:
        """Boxes from left to right, each with the words on the arrow that leads to it."""
        drawn = [text(20, y + 24, title, "bold small", "start")]
        gap = 640 / (len(steps) - 1)
        for n, (words, name, colour) in enumerate(steps):
            x = 196 + gap * n
            drawn.append(box(x, y, 84, 40, colour) + text(x + 42, y + 24, name, "small"))
            if n:
                drawn.append(arrow((x - gap + 84, y + 20), (x - 3, y + 20)))
                drawn.append(text(x - (gap - 84) / 2, y + 13, words, "small"))
        return "".join(drawn)

    camera, slot = ("", "camera", BLUE), ("slot", AMBER)
    return picture(
        940,
        216,
        "What happens to a frame on its way through a queue, a RingQueue and a ring",
        way(
            20,
            "multiprocessing.Queue",
            camera,
            ("pickle", "bytes", GREY),
            ("write", "pipe", GREY),
            ("read", "bytes", GREY),
            ("unpickle", "detector", GREEN),
        ),
        way(88, "RingQueue", camera, ("copy", *slot), ("copy", "detector", GREEN)),
        way(156, "Ring", camera, ("write in place", *slot), ("read in place", "detector", GREEN)),
    )


# ---- the order of a block


def order() -> str:
    """The parts of a block, one after another, and how processes map them."""
    top, height = 84, 64
    parts = [
        ("identity", 80, AMBER),
        ("hot words", 84, AMBER),
        ("places", 80, AMBER),
        ("groups", 70, AMBER),
        ("schema", 70, AMBER),
        ("entries", 90, AMBER),
        ("owners", 70, AMBER),
        ("slots", 170, GREEN),
        ("spare", 66, GREEN),
    ]
    drawn, x = [], 60.0
    edges = [x]
    for title, width, colour in parts:
        drawn += [box(x, top, width, height, colour), text(x + width / 2, top + 37, title, "small")]
        x += width
        edges.append(x)
    slots, end = edges[-3], edges[-1]

    def span(left: float, right: float, y: float, words: str) -> str:
        line = f'<path d="M{left:g} {y - 6:g} v6 H{right:g} v-6" class="thin"/>'
        return line + text((left + right) / 2, y + 16, words, "small")

    second = end + 14
    return picture(
        920,
        260,
        "The parts of a block in the order in which they lie in the file, and how processes map them",
        text(20, 26, "/dev/shm/NAME", "bold", "start"),
        text(edges[0], top - 12, "0", "code", "start"),
        text(edges[1], top - 12, "256", "code"),
        text(edges[2], top - 12, "1024", "code"),
        text(slots, top - 12, "slots_offset", "code"),
        *drawn,
        span(
            edges[0],
            slots - 3,
            top + height + 14,
            "control region: read and written by producer and consumers",
        ),
        span(slots + 3, end, top + height + 14, "written by the producer alone"),
        text(20, 222, "in memory", "bold", "start"),
        box(slots - 330, 204, 150, 28, AMBER),
        text(slots - 255, 222, "control region", "small"),
        box(slots - 170, 204, 170, 28, GREEN),
        text(slots - 85, 222, "slots", "small"),
        box(slots, 204, 170, 28, GREEN, dashed=True),
        text(slots + 85, 222, "the same slots again", "small"),
        box(slots + 170, 204, 66, 28, GREEN, dashed=True),
        text(slots + 203, 222, "spare", "small"),
        arrow((second - 480, 248), (slots + 120, 248)),
        text(slots + 126, 252, "a run across the end is one piece", "small faint", "start"),
    )


# ---- both sides look


def fences() -> str:
    """The pattern of every pair of fences: store, fence, look; at least one side sees the other."""

    def side(left: float, colour: str, title: str, *steps: str) -> str:
        drawn = [text(left + 130, 54, title, "bold")]
        for n, step in enumerate(steps):
            y = 68 + 46 * n
            fence = step.startswith("fence")
            drawn.append(box(left, y, 260, 34, GREY if fence else colour, dashed=fence))
            drawn.append(text(left + 130, y + 21, step, "code" if fence else "small"))
        return "".join(drawn)

    return picture(
        920,
        284,
        "The producer marks an entry, then looks at the pins; a consumer pins a slot, then looks at the mark",
        side(60, BLUE, "Producer", "entry: position 9 is being written", "fence mark", "is the slot pinned?"),
        side(
            600,
            GREEN,
            "Lossy consumer",
            "slot 1: pinned by me",
            "fence pin",
            "is position 1 still published?",
        ),
        arrow((598, 85), (470, 85), (450, 176), (323, 176)),
        arrow((322, 85), (450, 85), (470, 176), (597, 176)),
        text(460, 216, "Each side stores its own word first, and only then looks at the other's.", "small"),
        text(190, 246, "sees the pin: takes another slot", "small"),
        text(460, 246, "or, or both", "small faint"),
        text(730, 246, "sees the mark: unpins and goes to a later frame", "small"),
        text(
            460,
            272,
            "What cannot happen: neither sees the other, and a frame is overwritten while it is read.",
            "small faint",
        ),
    )


PICTURES = {
    "block.svg": block,
    "claim.svg": claim,
    "copies.svg": copies,
    "fences.svg": fences,
    "layers.svg": layers,
    "order.svg": order,
    "stream.svg": stream,
}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (HERE / name).write_text(draw())
