"""The page in a browser, if there is one: in real time, for clocks are what is tested."""

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sfisep_core.audio.files import Encoding, write_audio
from sfisep_core.separation.listening import ListeningRequest, make_listening_page
from tests.browser import BROWSER, MISSING, Page, browser_page

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason=MISSING)]

SECONDS = 30.0
SAMPLE_RATE = 48000
# What `sfisep separate` writes, and one that the browser does not play.
FILES: dict[str, tuple[str, Encoding | None]] = {
    "vocals": ("vocals.wav", "int24"),
    "drums": ("drums.wav", "int16"),
    "bass": ("bass.wav", "float32"),
    "other": ("other.flac", "int24"),
    "guitar": ("guitar.mp3", None),
    "piano": ("piano.ogg", None),
    "<i>#1?": ("<i>#1?.opus", None),
}
UNPLAYABLE = "flute"
COUNT = len(FILES) + 1
STEP = 0.020  # seconds that the stems may be apart
# Seconds after a start or a jump until they are no further apart: one on a machine at rest. Other
# work on the machine makes the browser read clocks late, and correct them late.
SETTLED = 20.0

# Positions of all elements that play, as often as given.
CLOCKS = """new Promise(go => {
  const seen = [];
  const look = () => {
    const heard = tracks.map(track => track.audio).filter(audio => !audio.error);
    seen.push([performance.now() / 1000, ...heard.map(audio => audio.currentTime)]);
    if (seen.length < %d) setTimeout(look, 20); else go(seen);
  };
  look();
})"""
RUNNING = "ensemble.playing && !ensemble.waiting"
HEARD = "tracks.filter(track => track.audio.volume > 0.001).map(track => track.name)"


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages") / "a song & <more>"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, encoding in FILES.values():
        noise = rng.normal(0, 0.05, (2, round(SECONDS * SAMPLE_RATE))).astype(np.float32)
        write_audio(folder / name, noise, sample_rate=SAMPLE_RATE, encoding=encoding)
    soundfile.write(folder / f"{UNPLAYABLE}.aiff", np.zeros(SAMPLE_RATE), SAMPLE_RATE)
    return make_listening_page(ListeningRequest(folder)).path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser_page(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def page(browser: Page, song: Path) -> Iterator[Page]:
    browser.open(song.as_uri(), width=1280)
    browser.wait("tracks.every(track => track.audio.error || track.audio.readyState === 4)")
    yield browser
    assert browser.log == []


def middle(page: Page, selector: str) -> tuple[float, float]:
    box = page.run(
        f"(() => {{ const box = document.querySelector({selector!r}).getBoundingClientRect();"
        " return [box.x, box.y, box.width, box.height]; })()"
    )
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def click(page: Page, selector: str) -> None:
    page.drag(middle(page, selector))


def wait_in_step(page: Page, *, count: int = 50) -> None:
    """Wait until the elements play in step for as long as `count` looks at their clocks take."""
    page.wait(RUNNING)
    end = time.monotonic() + SETTLED
    while True:
        clocks = np.array(page.run(CLOCKS % count))
        assert clocks.shape == (count, 1 + len(FILES))
        apart = float(np.ptp(clocks[:, 1:], axis=1).max())
        moved = clocks[-1] - clocks[0]
        at_speed = moved[1:] == pytest.approx(moved[0], abs=0.1)
        if apart < STEP and at_speed:
            return
        assert time.monotonic() < end, f"{apart:.3f} s apart, moved by {moved}"


def test_all_formats_play_in_step(page: Page) -> None:
    click(page, "#play")
    wait_in_step(page, count=100)
    for position in (8.0, 2.5):
        before = time.monotonic()
        page.run(f"ensemble.seek({position})")
        wait_in_step(page)
        at_most = position + time.monotonic() - before
        assert position + 0.9 < page.run("ensemble.position") < at_most + 0.1
    click(page, "#play")
    stopped = page.run("ensemble.position")
    time.sleep(0.2)
    assert page.run("ensemble.position") == stopped
    assert page.run("tracks.every(track => track.audio.paused)")
    page.log.clear()  # of the file that it cannot play


def test_a_stem_that_falls_behind_catches_up(page: Page) -> None:
    click(page, "#play")
    page.wait(RUNNING)
    for jump in (-0.06, 0.06, 1.0):
        page.run("ensemble.seek(0)")
        page.wait(RUNNING)
        page.run(f"tracks[1].audio.currentTime += {jump}")
        wait_in_step(page)
    page.log.clear()


def test_solo_and_mute(page: Page) -> None:
    click(page, "#play")
    page.wait(RUNNING)
    first, rest = list(FILES)[:4], list(FILES)[4:]
    assert page.run(HEARD) == [*first, *sorted([*rest, UNPLAYABLE])]
    click(page, "[aria-label='Mute drums']")
    assert "drums" not in page.run(HEARD)
    assert len(page.run(HEARD)) == COUNT - 1
    wait_in_step(page)
    click(page, "[aria-label='Solo drums']")
    assert page.run(HEARD) == ["drums"]  # what is soloed is heard
    click(page, "[aria-label='Solo bass']")
    assert page.run(HEARD) == ["drums", "bass"]
    wait_in_step(page)
    pressed = "[...document.querySelectorAll('[aria-pressed=true]')].map(b => b.ariaLabel)"
    assert page.run(pressed) == ["Solo drums", "Mute drums", "Solo bass"]
    click(page, "#reset")
    assert len(page.run(HEARD)) == COUNT
    page.run("tracks[0].volume.value = 50, tracks[0].volume.dispatchEvent(new Event('input'))")
    assert page.run("tracks[0].audio.volume") == 0.25
    page.log.clear()


def test_range_is_looped(page: Page) -> None:
    box = page.run(
        "(() => { const box = document.querySelector('#seek').getBoundingClientRect();"
        " return [box.x, box.y, box.width, box.height]; })()"
    )
    x = [box[0] + share * box[2] for share in (0.5, 0.52, 0.55)]
    y = box[1] + box[3] / 2
    page.drag(*((place, y) for place in x))
    assert page.run("[range.start, range.end]") == pytest.approx([15.0, 16.5], abs=0.05)
    assert page.run("ensemble.position") == pytest.approx(15.0, abs=0.05)
    click(page, "#play")
    page.wait(RUNNING)
    positions = np.array(
        page.run(
            "new Promise(go => { const seen = []; const watch = setInterval(() => {"
            " seen.push(ensemble.position);"
            " if (seen.length === 200) { clearInterval(watch); go(seen); } }, 20); })"
        )
    )
    assert 14.9 < positions.min() < 15.2
    assert 16.3 < positions.max() < 17.0
    assert sum(later < earlier - 1 for earlier, later in pairwise(positions)) >= 1
    click(page, "#loop")
    page.wait("ensemble.position > 17.5")
    wait_in_step(page)
    page.log.clear()


def test_keys(page: Page) -> None:
    page.press("ArrowRight")
    assert page.run("ensemble.position") == 5
    page.press("ArrowRight", shift=True)
    assert page.run("ensemble.position") == 5.5
    page.press("[")
    page.press("ArrowRight")
    page.press("]")
    assert page.run("[ensemble.loop.start, ensemble.loop.end]") == [5.5, 10.5]
    assert page.run("document.getElementById('range').textContent") == "0:05.5 \N{EN DASH} 0:10.5"
    page.press("l")
    assert page.run("ensemble.loop") is None
    page.press("2", code="Digit2")
    assert page.run(HEARD) == ["drums"]
    page.press("@", code="Digit1", shift=True)
    assert page.run("tracks[0].mute.getAttribute('aria-pressed')") == "true"
    page.press("0", code="Digit0")
    assert len(page.run(HEARD)) == COUNT
    page.press("Home")
    assert page.run("ensemble.position") == 0
    page.press(" ", code="Space")
    page.wait(RUNNING)
    click(page, "#loop")
    page.press(" ", code="Space")  # the button that was clicked does not take it
    assert not page.run("ensemble.playing")
    assert page.run("document.getElementById('loop').getAttribute('aria-pressed')") == "true"
    page.log.clear()


def test_end_stops_and_play_begins_again(page: Page) -> None:
    page.run("ensemble.seek(seconds - 0.6), ensemble.play()")
    page.wait(RUNNING)
    page.wait("!ensemble.playing")
    assert page.run("ensemble.position") == SECONDS
    page.run("ensemble.play()")
    page.wait(RUNNING)
    assert page.run("ensemble.position") < 5
    page.log.clear()


def test_file_that_the_browser_cannot_play_is_told(page: Page) -> None:
    note = f"tracks.find(track => track.name === {UNPLAYABLE!r}).row.querySelector('.note')"
    page.wait(f"{note}.textContent.startsWith('This browser')")
    assert page.run(f"{note}.hidden") is False
    assert f"{UNPLAYABLE}.aiff" in page.run(f"{note}.textContent")
    assert page.run("tracks.filter(track => track.solo.disabled).map(track => track.name)") == [
        UNPLAYABLE
    ]
    page.log.clear()


@pytest.mark.parametrize("width", [1280, 700, 360])
def test_layout_fits(page: Page, song: Path, width: int) -> None:
    page.open(song.as_uri(), width=width)
    assert not page.run("document.documentElement.scrollWidth > innerWidth")
    sizes: list[Any] = page.run(
        "[...document.querySelectorAll('#play, #loop, #reset, .lane')].map(element =>"
        " { const box = element.getBoundingClientRect(); return [box.width, box.height]; })"
    )
    assert min(width for width, _ in sizes) > 40
    assert min(height for _, height in sizes) > 30
    bar = page.run("document.querySelector('.transport').getBoundingClientRect().bottom")
    assert bar <= 900
    canvases = "[...document.querySelectorAll('canvas')]"
    page.wait(f"{canvases}.every(canvas => canvas.width === canvas.clientWidth)")
    assert page.run("[...document.images].every(image => image.naturalWidth > 0)")
    page.log.clear()
