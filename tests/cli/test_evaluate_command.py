import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.evaluation.conftest import SAMPLE_RATE, data, model, stems_of

pytestmark = pytest.mark.slow

__all__ = ["data", "model"]  # fixtures

Run = Callable[..., int]
SOURCES = ("vocals", "drums", "bass", "other")


def cells_of(text: str, label: str) -> list[str]:
    """Return the numbers of a method's line, SDR and SI-SDR of each stem."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"{label} "))
    return line.removeprefix(label).split()


def test_tables_of_model_and_baselines(
    run_sfisep: Run, data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["evaluate", "--data", data, "--sr", 6000, "--model", model, "--out", out]
    arguments += ["--baseline", "mixture", "--metrics", "sdr", "--device", "cpu"]
    assert run_sfisep(*arguments) == 0
    shown = capsys.readouterr()
    assert "6 scores computed, 0 were there already" in shown.err
    assert f"more in {out / '6000'}: summary.json and .csv, differences.csv" in shown.err
    assert "SDR and SI-SDR in dB, median over 3 tracks" in shown.out
    assert "bass*" in shown.out  # silent in one track
    assert "vocals*" not in shown.out
    summary = json.loads((out / "6000/summary.json").read_text())
    medians = {
        (row["system"], row["source"], row["metric"]): row["median"] for row in summary["scores"]
    }
    for system, label in (("native", f"{model.parent.name}-tiny native"), ("mixture", "mixture")):
        assert cells_of(shown.out, label) == [
            f"{medians[system, source, metric]:.2f}"
            for source in SOURCES
            for metric in ("sdr", "si_sdr")
        ]
    assert len(shown.out.splitlines()) == 7  # what it is, two of headings, rate, two rows, star
    assert run_sfisep(*arguments) == 0
    again = capsys.readouterr()
    assert "0 scores computed, 6 were there already" in again.err
    assert again.out == shown.out
    files = sorted(str(p.relative_to(out / "6000")) for p in out.rglob("*.json"))
    assert files == [
        *(f"mixture/test/noise {n}.json" for n in range(3)),
        *(f"{model.parent.name}-tiny.native/test/noise {n}.json" for n in range(3)),
        "summary.json",
    ]


def test_one_track_has_neither_interval_nor_mean(
    run_sfisep: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", "--data", data, "--no-native", "--baseline", "mixture"]
    arguments += ["--baseline", "oracle-irm", "--track", "noise 0", "--metrics", "sdr"]
    assert run_sfisep(*arguments, "--out", tmp_path / "out") == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("SDR and SI-SDR in dB, 1 track\n")
    assert "*" not in shown.out
    summary = json.loads((tmp_path / "out/8000/summary.json").read_text())
    rows = summary["scores"] + summary["differences"]
    assert {row["tracks"] for row in rows} == {1}
    assert {(row["low"], row["high"]) for row in rows} == {(None, None)}


def test_json_is_all_that_is_printed(
    run_sfisep: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for track in range(3):
        folder = tmp_path / f"mine/noise {track}"
        folder.mkdir(parents=True)
        for name, stem in zip(SOURCES, stems_of(track), strict=True):
            soundfile.write(folder / f"{name}.wav", stem.T / 2, SAMPLE_RATE, subtype="FLOAT")
    arguments = ["evaluate", "--data", data, "--estimates", tmp_path / "mine", "--json"]
    assert (
        run_sfisep(*arguments, "--out", tmp_path / "out", "--track", "noise 0", "--track", "*2")
        == 0
    )
    content = json.loads(capsys.readouterr().out)
    assert (content["systems"], content["model"]) == (["mine"], None)
    assert content["tracks"] == ["noise 0", "noise 2"]
    (row,) = (r for r in content["scores"] if (r["source"], r["metric"]) == ("bass", "snr"))
    # An estimate of half the amplitude misses a quarter of the energy.
    assert row["median"] == pytest.approx(10 * np.log10(4))


def test_failures_are_shown_and_counted(
    run_sfisep: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    arguments = ["evaluate", "--data", data, "--estimates", tmp_path / "mine"]
    assert run_sfisep(*arguments, "--baseline", "mixture", "--out", tmp_path / "out") == 1
    shown = capsys.readouterr().err.replace("\n", "")
    assert shown.count("mine at 8000 Hz: estimates of noise") == 3
    assert "3 scores computed" in shown
    table = tmp_path / "out/8000/summary.csv"
    before = table.read_text()
    assert run_sfisep(*arguments, "--out", tmp_path / "out") == 1
    shown = capsys.readouterr().err.replace("\n", "")
    assert "no tables are written" in shown
    assert table.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sr", 16000], "--allow-upsampled"),
        (["--baseline", "resampel"], "expected one of native"),
        (["--track", "nobody"], "expected a track 'nobody'"),
        (["--split", "valid"], "expected tracks in split 'valid'"),
        (["--model", "nobody"], "expected a bundled model"),
        (["--estimates", "nowhere"], "expected a folder"),
        (["--json", "--quiet"], "exclude each other"),
        (["--device", "abacus"], "expected auto, cpu"),
    ],
)
def test_refused_before_any_work(
    run_sfisep: Run,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[object],
    message: str,
) -> None:
    out = tmp_path / "out"
    assert run_sfisep("evaluate", "--data", data, "--out", out, *arguments) in (1, 2)
    assert message in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def test_museval_needs_ffmpeg(
    run_sfisep: Run,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    arguments = ["--baseline", "mixture", "--metrics", "museval", "--estimates", tmp_path]
    assert run_sfisep("evaluate", "--data", data, "--out", tmp_path / "out", *arguments) != 0
    assert "ffmpeg" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="museval needs ffmpeg")
def test_museval_gives_the_same(
    run_sfisep: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {}
    folder = tmp_path / "mine/noise 0"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(5).uniform(-0.1, 0.1, stems_of(0).shape)
    for name, stem in zip(SOURCES, stems_of(0) + noise, strict=True):
        soundfile.write(folder / f"{name}.wav", stem.T, SAMPLE_RATE, subtype="FLOAT")
    for metrics in ("all", "museval"):
        arguments = ["--estimates", tmp_path / "mine", "--track", "noise 0"]
        arguments += ["--metrics", metrics, "--json", "--out", tmp_path / metrics]
        assert run_sfisep("evaluate", "--data", data, *arguments) == 0
        rows = json.loads(capsys.readouterr().out)["scores"]
        values[metrics] = {(r["source"], r["metric"]): r["median"] for r in rows}
    assert values["museval"].keys() == values["all"].keys()
    for key, value in values["all"].items():
        assert values["museval"][key] == pytest.approx(value, abs=1e-3)
