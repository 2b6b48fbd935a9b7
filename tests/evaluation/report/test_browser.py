"""The report in a browser, if there is one."""

import html
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sfisep_core.evaluation.report import write_report
from sfisep_core.evaluation.study import Study
from sfisep_core.pretrained.resolve import resolve_model
from tests.browser import BROWSER, MISSING

pytest.importorskip("matplotlib")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason=MISSING),
]

LISTENER = """<script>
window.problems = [];
addEventListener('error', e => problems.push(e.message || e.target.tagName), true);
addEventListener('unhandledrejection', e => problems.push(String(e.reason)));
addEventListener('securitypolicyviolation', e => problems.push(e.violatedDirective));
</script>"""

PROBE = """<script>
addEventListener('load', async () => {
  const seen = { figures: {}, images: [], players: [], problems };
  const select = document.getElementById('score');
  const sizes = () => [...document.querySelectorAll('figure svg')].map(svg => {
    const outside = svg.getBoundingClientRect(), inside = svg.getBBox();
    return Math.min(outside.width, outside.height, inside.width, inside.height);
  });
  for (const option of select.options) {
    select.value = option.value;
    select.dispatchEvent(new Event('change'));
    seen.figures[option.value] = sizes();
  }
  seen.images = [...document.images].map(image => image.naturalWidth);
  const players = [...document.querySelectorAll('audio')];
  for (const player of players) {
    const done = new Promise(go => {
      player.onloadedmetadata = player.onerror = go;
      setTimeout(go, 5000);
    });
    const type = player.src.slice(5, player.src.indexOf(';'));
    player.preload = 'metadata';
    player.load();
    await done;
    seen.players.push([player.canPlayType(type), player.readyState, player.duration]);
  }
  for (const player of players.slice(0, 2)) {
    const started = new Promise(go => player.addEventListener('play', () => setTimeout(go)));
    player.muted = true;
    player.play().catch(() => {});  // refused when the page's own script stops it
    await started;
  }
  seen.paused = players.slice(0, 2).map(player => player.paused);
  seen.scrolls = document.documentElement.scrollWidth > innerWidth;
  const result = document.createElement('pre');
  result.id = 'probe';
  result.textContent = JSON.stringify(seen);
  document.body.append(result);
});
</script>"""


def open_page(path: Path, profile: Path, *, width: int) -> tuple[dict[str, Any], str]:
    assert BROWSER is not None
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--autoplay-policy=no-user-gesture-required",
            "--virtual-time-budget=30000",
            "--enable-logging=stderr",
            f"--user-data-dir={profile}",
            f"--window-size={width},2000",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    match = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert match is not None, done.stderr[-2000:]
    return json.loads(html.unescape(match[1])), done.stderr


def open_loaded_page(path: Path, profile: Path, *, width: int) -> tuple[dict[str, Any], str]:
    """Open a page until its players know their lengths.

    They load in a process that virtual time does not wait for, so a busy machine may be too slow.
    """
    for attempt in range(4):
        seen, log = open_page(path, profile.with_name(f"{profile.name}{attempt}"), width=width)
        if all(ready >= 1 for _, ready, _ in seen["players"]):
            break
    return seen, log


@pytest.mark.parametrize("width", [1250, 600])
def test_everything_shows_and_plays(study: Study, tmp_path: Path, width: int) -> None:
    path = tmp_path / "report.html"
    write_report(study, path, model=resolve_model("sfi-conv-tasnet-small"))
    page = path.read_text(encoding="utf-8")
    page = page.replace("<head>", f"<head>{LISTENER}", 1).replace("</body>", f"{PROBE}</body>")
    path.write_text(page, encoding="utf-8")
    seen, log = open_loaded_page(path, tmp_path / "profile", width=width)
    assert seen["problems"] == []
    assert "CONSOLE" not in log
    assert list(seen["figures"]) == ["sdr", "si_sdr", "si_sdr_common_band"]
    for number, sizes in enumerate(seen["figures"].values()):
        shown = [place == number or place >= 3 for place in range(5)]
        assert [size > 100 for size in sizes] == shown
        assert [size > 0 for size in sizes] == shown
    assert len(seen["images"]) == len(seen["players"]) == 6
    assert min(seen["images"]) > 0
    for answer, ready, duration in seen["players"]:
        assert answer in ("probably", "maybe")
        assert ready >= 1  # knows its length: what virtual time lets it load
        assert duration == pytest.approx(1.0, abs=0.01)
    assert seen["paused"] == [True, False]
    assert not seen["scrolls"]
