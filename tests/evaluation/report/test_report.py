import base64
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sfisep_core.evaluation.report.filter_responses import filter_responses
from sfisep_core.evaluation.study import ALL_SOURCES, Example, ScoreKey, Study
from sfisep_core.evaluation.summary import compare
from sfisep_core.pretrained.resolve import resolve_model

pytest.importorskip("matplotlib", reason="the report needs matplotlib")

from sfisep_core.evaluation.report import write_report
from sfisep_core.evaluation.report.figures import lines_of
from sfisep_core.evaluation.report.listening import audio_uri

OTHER = "re<s>ample"
RATES = (8000, 11025, 32000)
SOURCES = ("vocals", "drums")
TRACKS = ("a", "b", "c", "<i>d</i> & é", "e")
CHROMIUM = next(
    (p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))),
    None,
)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.4, 0.4, shape).astype(np.float32)


def example(*, sample_rate: int = 11025, gain: float = 1.0) -> Example:
    signals = [gain * noise(2, sample_rate, seed=n) for n in range(7)]
    return Example(
        track='"<b>song</b>" & é',
        start=1.5,
        sample_rate=sample_rate,
        mixture=signals[0],
        references=dict(zip(SOURCES, signals[1:3], strict=True)),
        estimates={
            "native": dict(zip(SOURCES, signals[3:5], strict=True)),
            "re<s>ample": dict(zip(SOURCES, signals[5:7], strict=True)),
        },
    )


@pytest.fixture
def study() -> Study:
    generator = np.random.default_rng(0)
    scores = {
        ScoreKey(rate, system, source, metric): dict(
            zip(TRACKS, generator.normal(5, 1, len(TRACKS)).tolist(), strict=True)
        )
        for rate in RATES
        for system in ("native", "re<s>ample")
        for source in (*SOURCES, ALL_SOURCES)
        for metric in ("sdr", "si_sdr")
    }
    scores |= {
        ScoreKey(rate, system, ALL_SOURCES, "equivariance_db"): {
            "a": -40.0,
            "b": -60.0,
            "c": -np.inf,
        }
        for rate in RATES[:2]
        for system in ("native", "re<s>ample")
    }
    return Study(
        model="tiny",
        model_sha256="0123",
        native_rate=32000,
        data="noise",
        systems=["native", "re<s>ample"],
        sample_rates=RATES,
        sources=SOURCES,
        tracks=TRACKS,
        scores=scores,
        differences={
            (key, OTHER): compare(values, scores[key._replace(system=OTHER)])
            for key, values in scores.items()
            if key.system == "native"
        },
        examples=[example()],
    )


def test_lines_are_medians_with_their_intervals(study: Study) -> None:
    key = ScoreKey(8000, "native", "drums", "sdr")
    scores = {**study.scores, key: {"a": 1.0, "b": 2.0, "c": 9.0}}
    native, other = lines_of(replace(study, scores=scores), source="drums", metric="sdr")
    assert (native.system, other.system) == ("native", "re<s>ample")
    assert native.sample_rates == list(RATES)
    assert (native.medians[0], native.lows[0], native.highs[0]) == (2, 1, 9)


def test_rates_without_a_score_are_left_out_of_a_line(study: Study) -> None:
    native, _ = lines_of(study, source=ALL_SOURCES, metric="equivariance_db")
    assert native.sample_rates == [8000, 11025]
    assert native.medians == [-60, -60]
    assert np.isnan(native.lows[0])
    assert native.highs[0] == -40
    assert lines_of(study, source="bass", metric="sdr") == []


@pytest.mark.parametrize("sample_rate", [8000, 11025, 32000, 44100, 48000])
def test_filters_peak_at_their_centres_at_every_rate(sample_rate: int) -> None:
    (found,) = filter_responses(resolve_model("default"), [sample_rate])
    assert found.frequencies[-1] == sample_rate / 2
    assert np.all(np.diff(found.centers_hz) >= 0)
    peaks = found.frequencies[found.magnitudes_db.argmax(axis=1)]
    inside = (found.centers_hz > 200) & (found.centers_hz < 0.4 * sample_rate)
    assert inside.sum() > 50
    bin_width = found.frequencies[1]
    assert np.abs(peaks - found.centers_hz)[inside].max() < max(3 * bin_width, 60)


def test_responses_of_rates_agree_where_both_have_a_band() -> None:
    low, high = filter_responses(resolve_model("default"), [8000, 32000])
    assert high.frequencies[1] == 4 * low.frequencies[1]  # so that every fourth is the same
    inside = (low.centers_hz > 200) & (low.centers_hz < 2500)
    for of_low, of_high in zip(low.magnitudes_db[inside], high.magnitudes_db[inside], strict=True):
        a, b = 10 ** (of_low[:400:4] / 20), 10 ** (of_high[:100] / 20)  # to 3.1 kHz
        assert np.abs(a - b).max() < 0.01 * b.max()


def test_model_without_sfi_layers_has_no_responses(study: Study, tmp_path: Path) -> None:
    write_report(study, tmp_path / "report.html", model=None)
    assert "has no SFI encoder" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_player_holds_the_samples() -> None:
    signal = noise(2, 500)
    kind, data = audio_uri(signal, 28000).split(",")
    assert kind == "data:audio/flac;base64"
    found, rate = soundfile.read(io.BytesIO(base64.b64decode(data)), always_2d=True)
    assert rate == 28000
    assert np.abs(found.T - signal).max() <= 0.5001 / 32768


def test_too_loud_example_is_turned_down_as_a_whole(study: Study, tmp_path: Path) -> None:
    loud = example(gain=5.0)
    write_report(replace(study, examples=[loud]), tmp_path / "a.html", model=None)
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "all turned down by 6.0 dB" in text
    uris = re.findall(r'aria-label="([^"]*)" src="data:audio/flac;base64,([^"]+)"', text)
    signals = {
        label: soundfile.read(io.BytesIO(base64.b64decode(data)))[0].T for label, data in uris
    }
    assert len(signals) == 7
    gains = [
        np.vdot(signals[label], original) / np.vdot(original, original)
        for label, original in (
            ("mixture", loud.mixture),
            ("vocals, reference", loud.references["vocals"]),
            ("drums, native", loud.estimates["native"]["drums"]),
        )
    ]
    np.testing.assert_allclose(gains, 0.5, rtol=1e-3)


def test_page_escapes_names_and_shows_no_nan(study: Study, tmp_path: Path) -> None:
    missing = {key: values for key, values in study.scores.items() if key.sample_rate != 11025}
    write_report(replace(study, scores=missing), tmp_path / "a.html", model=None)
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    for raw in ("<i>d</i>", "<b>song", "<s>ample"):
        assert raw not in text
    for escaped in ("&lt;i&gt;d&lt;/i&gt; &amp; é", "re&lt;s&gt;ample", "&lt;b&gt;song"):
        assert escaped in text
    assert not re.search(r"\bnan\b", text)


def test_same_study_gives_the_same_bytes_and_loads_nothing(study: Study, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_report(study, tmp_path / name, model=resolve_model("default"))
    text = (tmp_path / "a").read_text(encoding="utf-8")
    assert (tmp_path / "b").read_text(encoding="utf-8") == text
    assert not re.search(r"""(?:src|href)\s*=\s*(?!["'](?:data:|#))""", text)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


# What a browser makes of the page: sizes of figures and images, players that have their audio.
_PROBE = """
<script>
const errors = [];
window.addEventListener('error', event => errors.push(String(event.message)));
window.addEventListener('load', async () => {
  const players = [...document.querySelectorAll('audio')];
  const durations = await Promise.all(players.map(player => new Promise(resolve => {
    player.addEventListener('loadedmetadata', () => resolve(player.duration));
    player.addEventListener('error', () => resolve(-1));
    player.preload = 'metadata'; player.load();
  })));
  const boxes = [...document.querySelectorAll('figure:not([hidden]) svg')]
    .map(svg => svg.getBoundingClientRect().height);
  const images = [...document.querySelectorAll('img')].map(image => image.naturalWidth);
  const score = document.getElementById('score');
  const shown = () => [...document.querySelectorAll('figure[data-score]')]
    .filter(figure => !figure.hidden).map(figure => figure.dataset.score);
  const before = shown(); score.value = 'si_sdr'; score.dispatchEvent(new Event('change'));
  const out = document.createElement('pre'); out.id = 'probe';
  out.textContent = JSON.stringify({durations, boxes, images, errors, before, after: shown()});
  document.body.append(out);
});
</script></head>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_browser_shows_figures_and_players_without_a_network(study: Study, tmp_path: Path) -> None:
    write_report(study, tmp_path / "report.html", model=resolve_model("default"))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    (tmp_path / "probed.html").write_text(text.replace("</head>", _PROBE, 1), encoding="utf-8")
    done = subprocess.run(
        [
            str(CHROMIUM),
            *("--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=20000"),
            f"--user-data-dir={tmp_path / 'profile'}",
            (tmp_path / "probed.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    match = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match is not None, done.stderr
    found = json.loads(match[1])
    assert found["errors"] == []
    assert len(found["boxes"]) == 3  # scores, equivariance, filters
    assert min(found["boxes"]) > 100
    assert len(found["images"]) == 7
    assert min(found["images"]) > 20
    assert found["durations"] == pytest.approx([1.0] * 7, abs=0.01)
    assert (found["before"], found["after"]) == (["sdr"], ["si_sdr"])
