"""The page as a whole: list, keys, sizes, themes, what a reload keeps, and whether everybody can use it."""

from __future__ import annotations

import numpy as np
import pytest

HEIGHT, WIDTH = 24, 40
GENERATOR = np.random.default_rng(3)
FAULTS = ("serious", "critical")


def noise(*shape: int) -> np.ndarray:
    return GENERATOR.integers(0, 256, shape or (HEIGHT, WIDTH)).astype("u1")


def is_focused(page, selector: str) -> bool:
    return page.run("(selector) => document.activeElement.matches(selector)", selector)


# ---- list


def test_live_and_stale_rings(stream, make, show):
    ring, _ = stream(noise())
    unused = make(shape=(4, 4), dtype="u2")
    stale = unused.name
    unused.close()
    page = show()
    row = page.page.locator("#rings .ring", has_text=ring.name)
    row.get_by_text("24 \N{MULTIPLICATION SIGN} 40 u1").wait_for()
    folded = page.page.locator("#rings details .ring", has_text=stale)
    folded.wait_for(state="attached")
    assert not folded.is_visible()
    page.page.locator("#rings summary").click()
    folded.wait_for()
    page.page.locator("#rings summary").click()


def test_several_rings_beside_each_other(stream, show):
    names = []
    for number in range(3):
        ring, _ = stream(np.full((HEIGHT, WIDTH), number, "u1"))
        names.append(ring.name)
    page = show()
    for name in names:
        page.page.locator("#rings .ring", has_text=name).click()
    for number in range(3):
        assert page.shows(0, panel=number).pixels(number)[0, 0, 0] == number
    page.page.locator("#rings .ring", has_text=names[1]).click()
    assert page.run("shmring.panels.map((panel) => panel.name)") == [names[0], names[2]]
    assert page.run("document.title").startswith(f"{names[0]}, {names[2]}")


def test_a_ring_that_comes_leaves_the_focus_where_it_is(name, make, show):
    make(f"{name}-b", shape=(4, 4), dtype="u1")
    page = show()
    page.page.locator("#rings .ring", has_text=f"{name}-b").focus()
    make(f"{name}-a", shape=(4, 4), dtype="u1")
    page.page.locator("#rings .ring", has_text=f"{name}-a").wait_for()
    assert page.run("document.activeElement.textContent").startswith(f"{name}-b")


def test_filter(stream, show):
    names = [stream(noise())[0].name for _ in range(2)]
    page = show(names[0])
    for name in names:
        page.page.locator("#rings .ring", has_text=name).wait_for()
    page.press("/")
    assert is_focused(page, "#rings input")
    page.page.keyboard.type(names[1])
    assert page.page.locator("#rings .ring:visible").all_inner_texts()[0].startswith(names[1])
    assert page.page.locator("#rings .ring:visible").count() == 1
    page.page.locator("#rings input").fill("")


# ---- keys


def test_everything_can_be_done_by_keys(stream, show):
    ring, _ = stream(noise())
    page = show()
    page.page.locator("#rings .ring", has_text=ring.name).focus()
    page.press("Enter")
    page.shows(0)
    reached = set()
    for _ in range(60):
        page.press("Tab")
        reached.add(
            page.run("document.activeElement.getAttribute('aria-label') ?? document.activeElement.tagName")
        )
    wanted = {
        "Pause",
        "Next frame",
        "Save as PNG",
        "Save as .npy",
        "Settings",
        "Close",
        "Levels",
        "Colour map",
    }
    wanted |= {
        "Zoom in",
        "Zoom out",
        "One to one",
        "Turn by a quarter",
        "Line profile",
        f"Picture of ring {ring.name}",
    }
    assert wanted <= reached, wanted - reached


def test_keys_of_pictures(stream, show):
    ring, _ = stream(noise())
    page = show(ring.name).shows(0)
    page.press("m")
    assert page.view("map") == "viridis"
    page.press("Shift+M")
    assert page.view("map") == "gray"
    for key, mode in {"a": "auto", "p": "percentile", "u": "full", "f": "fixed"}.items():
        page.press(key)
        assert page.view("mode") == mode
    page.press("1", "+")
    assert page.view("viewport.scale") == 1.5
    page.press("-", "0")
    assert page.view("viewport.scale") is None
    page.press("i")
    assert not page.page.locator(".side").is_visible()
    page.press("i", "x")
    assert page.run("shmring.panels.length") == 0


def test_help(stream, show):
    ring, _ = stream(noise())
    page = show(ring.name).shows(0)
    page.press("?")
    assert page.page.get_by_role("dialog", name="Keys").is_visible()
    page.press("m", "x")  # keys of the page are not for it now
    assert page.view("map") == "gray"
    page.press("Escape")
    assert not page.page.get_by_role("dialog").is_visible()


def test_panel_after_panel(stream, show):
    names = [stream(noise())[0].name for _ in range(2)]
    page = show(*names).shows(0, panel=1)
    page.press("]")
    assert page.run("shmring.current.name") == names[0]
    page.press("]", "Space")
    assert page.run("shmring.panels.map((panel) => panel.paused)") == [False, True]
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"


# ---- sizes and themes


def widest(page) -> tuple[int, int]:
    return tuple(page.run("[document.documentElement.scrollWidth, innerWidth]"))


def test_narrow_phone(stream, open_page):
    ring, _ = stream(noise(200, 300))
    page = open_page(
        ring.name, width=360, height=640, options={"device_scale_factor": 2, "is_mobile": True}
    ).shows(0)
    assert widest(page)[0] <= 360
    assert not page.page.locator("#rings").is_visible()
    assert page.page.locator("canvas[tabindex]").bounding_box()["width"] > 320
    canvas = "shmring.panels[0].view.canvas"
    page.wait(f"{canvas}.width === Math.round({canvas}.getBoundingClientRect().width * 2)")
    page.page.get_by_label("Rings", exact=True).first.click()
    page.page.locator("#rings .ring", has_text=ring.name).wait_for()
    assert widest(page)[0] <= 360
    for box in (
        button.bounding_box() for button in page.page.locator(".panel > header button:visible").all()
    ):
        assert box["width"] >= 36
        assert box["x"] + box["width"] <= 360


def test_a_phone_that_shows_no_ring_yet_lists_them(stream, open_page):
    first, _ = stream(noise(20, 30))
    second, _ = stream(noise(20, 30))
    page = open_page(width=360, height=240, options={"is_mobile": True})
    row = page.page.locator("#rings .ring", has_text=first.name)
    row.wait_for()
    assert page.page.get_by_label("Filter rings").bounding_box()["height"] >= 32
    row.click()
    page.shows(0)
    assert not page.page.locator("#rings").is_visible()
    page.press("x")
    page.page.locator("#rings .ring", has_text=second.name).wait_for()


def test_only_as_many_pixels_as_are_shown(stream, show):
    ring, _ = stream(noise(1080, 1920))
    page = show(ring.name).shows(0)
    step = "Math.floor(1920 / shmring.panels[0].view.canvas.width)"
    page.wait(f"{step} > 1 && shmring.panels[0].last.step.every((one) => one === {step})")


def test_4k(stream, open_page):
    ring, _ = stream(noise(2160, 3840))
    page = open_page(ring.name, width=3840, height=2160).shows(0)
    assert page.view("canvas.width") > 3000
    assert widest(page)[0] == 3840
    page.wait("String(shmring.panels[0].last.shape) === '2160,3840'")


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_theme_of_the_system_and_of_the_button(stream, open_page, scheme, dark):
    page = open_page(options={"color_scheme": scheme})

    def brightness() -> int:
        return int(page.run("getComputedStyle(document.body).backgroundColor").split("(")[1].split(",")[0])

    assert (brightness() < 128) == dark
    page.press("d")
    assert (brightness() < 128) != dark
    page.page.reload()
    page.wait("globalThis.shmring?.known")
    assert (brightness() < 128) != dark


# ---- what lasts


def test_states_and_channels_keep_their_colours_where_others_are_forced(stream, open_page):
    ring, _ = stream(np.zeros(10, "f4"))
    page = open_page(ring.name, options={"forced_colors": "active", "color_scheme": "light"}).shows(0)
    found = [
        page.page.locator(which).first.evaluate("(one) => getComputedStyle(one).backgroundColor")
        for which in (".panel .dot", ".panel .swatch")
    ]
    assert found == ["rgb(21, 128, 61)", "rgb(47, 125, 225)"]


def test_reload_keeps_what_was_chosen(stream, open_page):
    first, _ = stream(noise())
    second, _ = stream(noise())
    page = open_page(first.name, second.name).shows(0, panel=1)
    page.press("]", "m", "r", "h")
    page.view("fix(10, 90)")
    page.page.reload()
    page.wait("globalThis.shmring?.known")
    page.shows(0).shows(0, panel=1)
    assert page.run("shmring.panels.map((panel) => panel.name)") == [first.name, second.name]
    kept = page.run("shmring.panels[0].settings")
    assert (kept["map"], kept["fixed"]) == ("viridis", [10, 90])
    assert kept["orientation"] == {"turn": 3, "mirrored": True}
    assert page.run("shmring.panels[1].settings.map") == "gray"


@pytest.mark.parametrize(
    "address", ["#ring=", "#ring=%FF", "#levels=1", "#ring=a&levels=x,y&view=9&seconds=-1", "#&&=="]
)
def test_odd_addresses(open_page, address):
    page = open_page()
    page.page.goto(page.server.base + address)
    page.page.reload()
    page.wait("globalThis.shmring?.known")


def test_ten_pages(stream, open_page):
    ring, out = stream(noise())
    pages = [open_page(ring.name)]
    pages += [pages[0].beside(ring.name) for _ in range(9)]
    for page in pages:
        page.shows(0)
    frame = noise()
    out.put(frame)
    for page in pages:
        assert np.array_equal(page.shows(1).pixels()[..., 0], frame)


def test_a_lost_graphics_card(stream, show):
    frame = noise()
    ring, _ = stream(frame)
    page = show(ring.name, map="magma").shows(0)
    before = page.pixels()
    page.run("globalThis.card = shmring.panels[0].view.picture.gl.getExtension('WEBGL_lose_context')")
    page.run("card.loseContext()")
    page.page.wait_for_selector(".banner:not([hidden])")
    page.run("card.restoreContext()")
    page.page.wait_for_selector(".banner[hidden]", state="attached")
    assert np.array_equal(page.pixels(), before)


def test_without_webgl2(stream, browser, server, cookies, open_page):
    ring, _ = stream(noise())
    page = open_page()
    page.page.add_init_script(
        """const before = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
            return kind === "webgl2" ? null : before.call(this, kind, ...rest);
        };"""
    )
    page.page.reload()
    page.open(ring.name)
    page.page.get_by_text("Pictures need WebGL2").wait_for()


# ---- for everybody


def faults(page) -> list[str]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = axe.Axe().run(page.page).response["violations"]
    return [
        f"{one['id']}: {[node['html'] for node in one['nodes']]}" for one in found if one["impact"] in FAULTS
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_fault_of_accessibility(stream, open_page, scheme):
    picture, out = stream(noise())
    signal, _ = stream(np.zeros((2, 480), "f4"), attrs={"unit": "volt"})
    table, _ = stream(np.zeros(3, [("n", "i4"), ("x", "f8")]))
    names = [picture.name, signal.name, table.name]
    page = open_page(*names, width=1500, height=900, options={"color_scheme": scheme})
    for panel in range(3):
        page.shows(0, panel=panel)
    page.page.locator("#rings .ring", has_text=picture.name).wait_for()
    page.run("shmring.panels[0].view.toggleProfile(); shmring.panels[0].traffic.element.open = true")
    out.close(error="a fault")
    page.page.wait_for_selector(".banner.error")
    assert faults(page) == []
    page.press("?")
    assert faults(page) == []


def test_no_serious_fault_on_a_phone(stream, open_page):
    ring, _ = stream(noise())
    page = open_page(ring.name, width=360, height=640).shows(0)
    assert faults(page) == []
    page.page.get_by_label("Rings", exact=True).first.click()
    assert faults(page) == []
