"""The page as a person uses it, in headless Chromium; what it shows is compared with what the model says in Python.

Screenshots lie in build/screenshots afterwards, to be looked at.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app_client import Server, served
from films import film, gray
from harkback.cli import main
from harkback.datasets.demo import Demo
from harkback.formats import percent
from harkback.model import Model

pytestmark = pytest.mark.app

SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
ARGS += ["--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"]
ARGS += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PATIENCE = 60_000  #: ms


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of five classes in ``clips``, and a model of two of them in ``rover``."""
    root = tmp_path_factory.mktemp("page")
    assert Demo(root / "clips", classes=5, train=10, test=4).splits["train"]
    (root / "clips" / "demo.json").unlink()
    names = sorted(path.name for path in (root / "clips" / "train").iterdir())
    lesson = ["--classes", ",".join(names[:2]), "--learner", "hark", "--hark.features", "100"]  # Quick to learn.
    main(["teach", str(root / "rover"), str(root / "clips"), *lesson])
    return root


@pytest.fixture
def rover(material: Path, tmp_path: Path) -> Path:
    shutil.copytree(material / "rover", tmp_path / "rover")
    return tmp_path / "rover"


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.client.port}"


class Tab:
    """A tab of the page, and what it asked the network for."""

    def __init__(self, browser: Any, server: Any, **settings: Any) -> None:
        settings = {"viewport": DESK, "permissions": ["camera", "microphone"], **settings}
        self.context = browser.new_context(base_url=url(server), **settings)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console", lambda said: self.complaints.append(said.text) if "Content Security" in said.text else 0
        )
        self.page.goto("/")
        self.page.wait_for_selector("main > section:visible")  # It knows the model, and what to show of it.

    def shot(self, name: str) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)

    def ask(self, path: Path) -> None:
        self.page.goto("/#ask")
        self.page.set_input_files("#file-ask", path)
        self.page.wait_for_function("() => document.querySelector('#ask-status').textContent.startsWith('Asked')")

    def weigh(self, name: str, paths: list[Path]) -> None:
        """Name a class, choose clips, and see what they cost."""
        self.page.goto("/#teach")
        self.page.fill("#class-name", name)
        self.page.set_input_files("#file-teach", paths)
        self.page.click("#see-cost")
        self.page.wait_for_selector("#commit:visible")

    def commit(self) -> None:
        self.page.click("#commit")
        self.page.wait_for_selector("#lesson-close:visible")

    def close(self) -> None:
        """Nothing was asked of another machine, and no script failed."""
        self.context.close()
        assert self.complaints == []


@pytest.fixture
def server(rover: Path, tmp_path: Path) -> Iterator[Any]:
    with served(rover, tmp_path / "tmp", runs=tmp_path / "runs") as server:
        yield server


@pytest.fixture
def tab(browser: Any, server: Any) -> Iterator[Tab]:
    tab = Tab(browser, server)
    yield tab
    assert [each for each in tab.asked if not each.startswith((url(server), "blob:", "data:"))] == []
    tab.close()


def clips(material: Path, number: int, split: str = "train") -> list[Path]:
    """Of the class of that number, in alphabetical order."""
    return sorted(sorted((material / "clips" / split).iterdir())[number].iterdir())


def name_of(material: Path, number: int) -> str:
    return sorted(path.name for path in (material / "clips" / "train").iterdir())[number]


def seek(tab: Tab, time: float) -> None:
    tab.page.evaluate(
        "time => new Promise(done => { const v = document.querySelector('#video');"
        "v.pause(); v.addEventListener('seeked', () => requestAnimationFrame(() => requestAnimationFrame(done)),"
        "{once: true}); v.currentTime = time; })",
        time,
    )


# ---- ask ------------------------------------------------------------------------------------------------------------


def test_a_clip_is_asked_and_the_heat_map_moves_with_it(tab: Tab, rover: Path, material: Path) -> None:
    path = clips(material, 0, "test")[0]
    tab.ask(path)
    (answer,) = Model(rover).predict(path, merge=False)
    page = tab.page
    assert page.get_attribute("#now", "data-label") == answer.name
    shown = page.inner_text("#now")
    assert answer.likeliest in shown and (answer.label is None or f"{percent(answer.confidence)} %" in shown)
    assert page.inner_text("#clip-name") == path.name

    heat = Model(rover).learner.heat(encoded(path))[0].numpy()  # (8 frames, 64 patches)
    sums = set()
    for frame in range(len(heat)):
        seek(tab, (frame + 0.5) / len(heat) * answer.end)
        assert page.get_attribute("#heat", "data-frame") == str(frame)
        sums.add(page.get_attribute("#heat", "data-heat"))
        if heat[frame].max() > 0.05 * heat.max():
            row, column = divmod(int(heat[frame].argmax()), 8)
            assert hottest(page) == (pytest.approx(row, abs=1), pytest.approx(column, abs=1))
    assert len(sums) == len(heat)
    seek(tab, (int(heat.max(1).argmax()) + 0.5) / len(heat) * answer.end)
    tab.shot("ask-1280")

    page.evaluate("document.querySelector('#video').currentTime = 0")
    page.evaluate("document.querySelector('#video').play()")
    seen = set()
    for _ in range(60):
        page.wait_for_timeout(40)
        seen.add(page.get_attribute("#heat", "data-heat"))
    assert len(seen) >= 4  # It moves as it plays.
    page.click("#show-heat")
    assert page.get_attribute("#heat", "data-heat") == "0" and hottest(page) is None


def encoded(path: Path) -> Any:
    from harkback.encoders.signal import Signal
    from harkback.media import read

    spec = Signal().spec
    return Signal().encode([read(path, frames=spec.frames, sample_rate=spec.sample_rate)])


def hottest(page: Any) -> tuple[int, int] | None:
    """Row and column of the patch of 8 x 8 whose middle is most opaque; None: nothing is drawn."""
    place = page.evaluate(
        "() => { const c = document.querySelector('#heat'), g = c.getContext('2d');"
        "let best = [0, -1, -1]; for (let r = 0; r < 8; r++) for (let k = 0; k < 8; k++) {"
        "const a = g.getImageData((k + .5) * c.width / 8, (r + .5) * c.height / 8, 1, 1).data[3];"
        "if (a > best[0]) best = [a, r, k]; } return best; }"
    )
    return None if place[0] == 0 else (place[1], place[2])


def test_the_heat_lies_exactly_over_the_picture(tab: Tab, tmp_path: Path) -> None:
    tall = film(tmp_path / "tall.mp4", [gray(90 + 20 * k, (160, 80)) for k in range(8)], codec="libx264")
    tab.ask(tall)
    video, heat = (tab.page.locator(f"#{name}").bounding_box() for name in ("video", "heat"))
    assert heat["width"] / heat["height"] == pytest.approx(0.5, rel=0.02)
    assert heat["x"] + heat["width"] / 2 == pytest.approx(video["x"] + video["width"] / 2, abs=1.5)


def test_what_it_does_not_know_is_called_unknown(tab: Tab, rover: Path, material: Path) -> None:
    model = Model(rover)
    strangers = [path for number in (2, 3, 4) for path in clips(material, number, "test")]
    stranger = next(path for path in strangers if model.predict(path)[0].label is None)
    tab.ask(stranger)
    assert tab.page.get_attribute("#now", "data-label") == "unknown"
    assert model.predict(stranger)[0].likeliest in tab.page.inner_text("#now")
    tab.shot("unknown-1280")


def test_answers_over_time(tab: Tab, rover: Path, material: Path) -> None:
    path = clips(material, 1, "test")[1]
    tab.page.goto("/#ask")
    tab.page.click("#ask-settings summary")
    tab.page.fill("#window", "0.5")
    tab.ask(path)
    answers = Model(rover).predict(path, window=0.5, merge=False)
    assert len(answers) == 4
    tab.page.click("#windows summary")
    rows = tab.page.locator("#rows tr").all_inner_texts()
    assert len(rows) == 4
    for row, answer in zip(rows, answers, strict=True):
        assert answer.name in row and percent(answer.confidence) in row
    tab.page.focus("#timeline")
    tab.page.keyboard.press("Home")
    texts = [tab.page.get_attribute("#timeline", "aria-valuetext")]
    for _ in range(3):
        tab.page.keyboard.press("ArrowRight")
        tab.page.wait_for_timeout(150)
        texts.append(tab.page.get_attribute("#timeline", "aria-valuetext"))
    assert [answer.name in text for answer, text in zip(answers, texts, strict=True)] == [True] * 4
    assert tab.page.evaluate("document.querySelector('#video').currentTime") == pytest.approx(
        answers[3].start, abs=0.05
    )


def test_a_broken_upload_is_one_line_and_nothing_else(tab: Tab, rover: Path, material: Path, tmp_path: Path) -> None:
    before = (rover / "model.json").read_bytes()
    broken = tmp_path / "broken <b>film.mp4"
    broken.write_bytes(clips(material, 0)[0].read_bytes()[:900])
    tab.page.goto("/#ask")
    tab.page.set_input_files("#file-ask", broken)
    tab.page.wait_for_function("() => document.querySelector('#alert').textContent.includes('broken')")
    said = tab.page.inner_text("#alert")
    assert "broken <b>film.mp4" in said and str(tmp_path) not in said and "\n" not in said.strip()
    tab.shot("broken-1280")
    tab.ask(clips(material, 0, "test")[0])  # The page goes on.
    assert (rover / "model.json").read_bytes() == before


def test_a_film_that_the_browser_cannot_play_is_shown_as_frames(tab: Tab, tmp_path: Path) -> None:
    levels = [40, 80, 120, 160]
    path = film(tmp_path / "old.mkv", [gray(level, (48, 64)) for level in levels for _ in range(6)], codec="ffv1")
    tab.ask(path)
    assert tab.page.is_visible("#still") and not tab.page.is_visible("#video")
    grey = "() => { const c = document.querySelector('#still'); return c.getContext('2d')"
    grey += ".getImageData(c.width / 2, c.height / 2, 1, 1).data[0]; }"
    seen = []
    for share in (0.1, 0.4, 0.6, 0.9):
        tab.page.fill("#still-seek", str(round(share * 24 / 25, 2)))
        tab.page.wait_for_timeout(300)
        seen.append(tab.page.evaluate(grey))
    assert seen == [pytest.approx(level, abs=8) for level in levels]
    tab.shot("frames-1280")


def test_a_clip_is_recorded_with_camera_and_microphone(tab: Tab) -> None:
    page = tab.page
    page.goto("/#ask")
    page.click("#record-ask")
    page.click("#recorder-ask .record")
    page.wait_for_timeout(2500)
    page.click("#recorder-ask .record")
    page.wait_for_function("() => document.querySelector('#ask-status').textContent.startsWith('Asked')")
    assert page.get_attribute("#now", "data-label")
    assert "no sound" not in page.inner_text("#now") and "no picture" not in page.inner_text("#now")
    tab.shot("recorded-1280")


# ---- teach ----------------------------------------------------------------------------------------------------------


def test_a_class_is_taught_told_undone_and_forgotten(tab: Tab, rover: Path, material: Path) -> None:
    page, name, asked = tab.page, name_of(material, 2), clips(material, 2, "test")
    before = {path.name: path.read_bytes() for path in rover.glob("*.*") if path.is_file()}
    tab.weigh(name, clips(material, 2))
    assert {path.name: path.read_bytes() for path in rover.glob("*.*") if path.is_file()} == before
    weighed = page.inner_text("#cost")
    tab.shot("cost-1280")
    tab.commit()
    record = json.loads((rover / "model.json").read_text())["sessions"][-1]
    cost = record["before"]
    assert f"Of {cost['asked']} retained clips of old classes, {cost['right']} were told rightly before" in weighed
    assert f"{cost['right_after']} would be after" in weighed
    assert f"{record['exam'][name][0]} of {record['exam'][name][1]}" in weighed
    tab.shot("taught-1280")
    model = Model(rover)
    assert name in model.classes
    told = next(path for path in asked if model.predict(path)[0].label == name)
    tab.ask(told)
    assert page.get_attribute("#now", "data-label") == name

    page.goto("/#knows")
    page.wait_for_selector(f"#classes >> text={name}")
    page.wait_for_selector("#portrait h2")
    pictures = page.locator("#classes img")
    assert pictures.count() == 9
    page.wait_for_function(
        "[...document.querySelectorAll('#classes img')].every(i => i.complete && i.naturalWidth > 99)"
    )
    assert f"of {cost['asked'] + record['exam'][name][1]}" in page.inner_text("#portrait").replace("\n", " ")
    tab.shot("knows-1280")

    page.goto("/#teach")
    page.click("#undo")
    page.click("#confirm-yes")
    page.wait_for_function("() => document.querySelector('#model-facts').textContent.includes('2 classes')")
    assert {path.name: path.read_bytes() for path in rover.glob("*.*") if path.is_file()} == before

    gone = name_of(material, 1)
    page.select_option("#forget-class", gone)
    page.click("#forget")
    page.click("#confirm-yes")
    page.wait_for_function("() => document.querySelector('#model-facts').textContent.includes('1 class')")
    assert Model(rover).classes == (name_of(material, 0),)
    assert gone not in (rover / "model.json").read_text()


def test_two_tabs_teach_at_once(browser: Any, server: Any, rover: Path, material: Path) -> None:
    tabs = [Tab(browser, server), Tab(browser, server)]
    for number, tab in enumerate(tabs, 2):
        tab.page.goto("/#teach")
        tab.page.fill("#class-name", name_of(material, number))
        tab.page.set_input_files("#file-teach", clips(material, number))
    for tab in tabs:
        tab.page.click("#see-cost")
    for tab in tabs:
        tab.page.wait_for_selector("#commit:visible")
    tabs[0].commit()
    tabs[1].page.click("#commit")  # What it was shown is no longer true.
    tabs[1].page.wait_for_function("() => document.querySelector('#alert').textContent.includes('changed')")
    tabs[1].page.wait_for_selector("#commit:visible:enabled")
    tabs[1].shot("weighed-anew-1280")
    tabs[1].commit()
    assert Model(rover).classes[2:] == (name_of(material, 2), name_of(material, 3))
    tabs[0].page.wait_for_function("() => document.querySelector('#model-facts').textContent.includes('4 classes')")
    for tab in tabs:
        tab.close()


def test_a_lesson_survives_a_reload_and_a_closed_tab(
    tab: Tab, browser: Any, server: Any, rover: Path, material: Path
) -> None:
    tab.page.goto("/#teach")
    tab.page.fill("#class-name", name_of(material, 2))
    broken = {"name": "broken.mp4", "mimeType": "video/mp4", "buffer": b"broken"}
    tab.page.set_input_files(
        "#file-teach",
        [
            *({"name": p.name, "mimeType": "video/mp4", "buffer": p.read_bytes()} for p in clips(material, 2)),
            broken,
        ],
    )
    with tab.page.expect_response(lambda response: "/teach" in response.url):
        tab.page.click("#see-cost")
    tab.page.reload()
    tab.page.wait_for_selector("#commit:visible")
    assert "broken.mp4" in tab.page.inner_text("#cost")
    with tab.page.expect_response(lambda response: response.url.endswith("/commit")):
        tab.page.click("#commit")
    tab.page.close()
    other = Tab(browser, server)
    other.page.wait_for_function("() => document.querySelector('#model-facts').textContent.includes('3 classes')")
    other.close()
    assert len(Model(rover).classes) == 3


def test_a_new_model_begins_with_its_first_lesson(browser: Any, material: Path, tmp_path: Path) -> None:
    with served(tmp_path / "new", tmp_path / "tmp") as server:
        tab = Tab(browser, server)
        tab.page.wait_for_selector("#teach-view:visible")
        tab.shot("new-1280")
        tab.weigh("first <i>", clips(material, 0)[:4])
        tab.commit()
        tab.ask(clips(material, 0, "test")[0])
        assert tab.page.get_attribute("#now", "data-label") == "first <i>"
        tab.close()
    assert Model(tmp_path / "new").classes == ("first <i>",)


def test_what_was_just_taught_elsewhere_can_be_asked(browser: Any, material: Path, tmp_path: Path) -> None:
    with served(tmp_path / "new", tmp_path / "tmp") as server:
        tab = Tab(browser, server)
        tab.page.route("**/health", lambda route: None)  # The page's next look at the version never comes.
        shutil.copytree(material / "rover", tmp_path / "new", dirs_exist_ok=True)
        tab.ask(clips(material, 0, "test")[0])
        assert tab.page.is_visible("#now") and tab.page.inner_text("#model-facts").startswith("2 classes")
        tab.context.close()


# ---- how it looks, and who can use it -------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser: Any, server: Any, material: Path, scheme: str, tmp_path: Path) -> None:
    bench_of(tmp_path / "runs" / "my clips")
    tab = Tab(browser, server, viewport=PHONE, color_scheme=scheme, has_touch=True, is_mobile=True)
    views = {
        "ask": lambda: tab.ask(clips(material, 0, "test")[0]),
        "teach": lambda: tab.weigh(
            name_of(material, 2) + " with a name that is far too long for a phone", clips(material, 2)
        ),
        "knows": lambda: (tab.page.goto("/#knows"), tab.page.wait_for_selector("#portrait h2")),
        "benches": lambda: (tab.page.goto("/#benches"), tab.page.click("#benches a")),
    }
    for name, go in views.items():
        go()
        tab.page.wait_for_timeout(400)
        wide = tab.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= PHONE["width"], name
        small = tab.page.evaluate(
            "[...document.querySelectorAll('button, label.button, nav a, input:not([type=checkbox]):not(.file)')]"
            ".filter(e => e.checkVisibility()).map(e => [e.id || e.textContent, e.getBoundingClientRect().height])"
            ".filter(([, h]) => h < 39.5 && h > 1)"
        )
        assert [each for each in small if "strength" not in each[0] and "seek" not in each[0]] == [], name
        tab.shot(f"{name}-390-{scheme}")
    tab.close()


def bench_of(folder: Path) -> None:
    """A bench's report, as far as the page is concerned."""
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<!doctype html><title>r</title><h1 id=title>A report</h1>")
    (folder / "report.json").write_text(json.dumps({"dataset": "my clips", "rows": [{"learner": "hark"}]}))


def test_reports_of_benches_open_in_the_page(tab: Tab, tmp_path: Path) -> None:
    bench_of(tmp_path / "runs" / "my clips")
    tab.page.goto("/#benches")
    tab.page.click("#benches a")
    frame = tab.page.frame_locator("#bench-frame")
    assert frame.locator("h1").inner_text() == "A report"
    tab.shot("benches-1280")


def test_by_keyboard_alone(tab: Tab, rover: Path, material: Path) -> None:
    page = tab.page
    page.goto("/#ask")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    reached = set()
    for _ in range(25):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.hash"))
    assert {"#ask", "#teach", "#knows", "#benches", "file-ask", "record-ask"} <= reached
    page.goto("/#teach")
    page.focus("#class-name")
    page.keyboard.type(name_of(material, 2))
    page.set_input_files("#file-teach", clips(material, 2))  # The system's own dialogue.
    page.focus("#see-cost")
    page.keyboard.press("Enter")
    page.wait_for_selector("#commit:visible")
    page.focus("#commit")
    page.keyboard.press("Space")
    page.wait_for_selector("#lesson-undo:visible")
    page.focus("#undo")
    page.keyboard.press("Enter")
    assert page.is_visible("#confirm")
    page.keyboard.press("Escape")
    assert not page.is_visible("#confirm") and len(Model(rover).classes) == 3


def test_a_server_that_is_gone_is_said(browser: Any, rover: Path, material: Path, tmp_path: Path) -> None:
    with served(rover, tmp_path / "tmp") as server:
        tab = Tab(browser, server)
        tab.page.goto("/#teach")
        tab.page.fill("#class-name", "duck")
        tab.page.set_input_files("#file-teach", clips(material, 2))
    tab.page.click("#see-cost")
    tab.page.wait_for_function("() => document.querySelector('#alerts').textContent.includes('does not answer')")
    assert tab.page.input_value("#class-name") == "duck" and tab.page.locator("#clips li").count() == 10
    tab.context.close()


def test_a_token_is_asked_for_and_taken(browser: Any, rover: Path, tmp_path: Path) -> None:
    with served(rover, tmp_path / "tmp", token="secret-of-this-test") as server:
        context = browser.new_context(base_url=url(server))
        page = context.new_page()
        page.goto("/login")
        page.fill("input[name=token]", "wrong")
        page.click("button")
        assert page.locator("input[name=token]").is_visible()
        page.fill("input[name=token]", "secret-of-this-test")
        page.click("button")
        page.wait_for_selector("#model-facts:has-text('2 classes')")
        assert "secret" not in page.url
        context.close()


def test_the_page_on_the_http_interface_names_every_route(tab: Tab) -> None:
    tab.page.goto("/docs")
    shown = tab.page.inner_text("main")
    api = tab.page.evaluate("fetch('/openapi.json').then(answer => answer.json())")
    for path, operations in api["paths"].items():
        for method in operations:
            assert f"{method.upper()} {path}" in shown
    for schema in api["components"]["schemas"].values():
        assert all(name in shown for name in schema.get("properties", {}))
    tab.shot("docs-1280")
