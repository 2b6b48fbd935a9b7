import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.evaluation.conftest import data, model

pytestmark = pytest.mark.slow

__all__ = ["data", "model"]  # fixtures

Run = Callable[..., int]


@pytest.fixture
def arguments(data: Path, model: Path, tmp_path: Path) -> list[object]:
    options = ["--data", data, "--model", model, "--out", tmp_path / "out", "--metrics", "sdr"]
    return ["compare-resampling", *options, "--device", "cpu"]


def test_scores_tables_and_report(
    run_sfisep: Run,
    arguments: list[object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib")
    arguments += ["--sr", 8000, "--sr", 5000, "--sr", 6000, "--track", "noise 0", "--track", "*2"]
    arguments += ["--json"]
    arguments += ["--example", "noise 0:0.5-2", "--example-sr", 8000, "--example-sr", 5000]
    assert run_sfisep(*arguments) == 0
    shown = capsys.readouterr()
    tables = json.loads(shown.out)
    methods = ["native", "resample", "soxr", "noisy-kernel", "post-noise", "direct"]
    assert tables["systems"] == methods
    assert tables["tracks"] == ["noise 0", "noise 2"]
    found = {(row["sample_rate"], row["system"]) for row in tables["scores"]}
    assert found == {(rate, name) for rate in (5000, 6000, 8000) for name in methods}
    errors = [r for r in tables["scores"] if r["metric"] == "equivariance_db"]
    assert {r["sample_rate"] for r in errors} == {5000, 8000}  # 6000 Hz is the native rate
    assert "36 scores computed" in shown.err
    report = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    # Mixture, four references and six methods' four stems, at two rates.
    assert report.count("<audio") == 2 * (1 + 4 + 6 * 4)
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", report)
    assert run_sfisep(*arguments) == 0
    again = capsys.readouterr()
    assert "0 scores computed" in again.err
    assert json.loads(again.out) == tables
    assert (tmp_path / "out/report.html").read_text(encoding="utf-8") == report


def test_track_that_fails_is_not_in_the_report_and_costs_no_table(
    run_sfisep: Run,
    arguments: list[object],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib")
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    next((copy / "test/noise 0").glob("vocals.*")).write_bytes(b"RIFF")
    arguments[arguments.index("--data") + 1] = copy
    arguments += ["--method", "mixture", "--example", "noise 0"]
    assert run_sfisep(*arguments) == 1
    shown = " ".join(capsys.readouterr().err.split())
    assert "no example of noise 0" in shown
    report = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "2 of 3 tracks" in report
    assert "noise 0" not in report
    assert "No excerpts were chosen" in report
    assert json.loads((tmp_path / "out/summary.json").read_text())["failures"]
    # A report does not stay beside other scores.
    assert run_sfisep(*arguments, "--no-report") == 1
    assert not (tmp_path / "out/report.html").exists()


def test_default_rates_are_those_up_to_the_stored_one(
    run_sfisep: Run, arguments: list[object], tmp_path: Path
) -> None:
    arguments += ["--method", "direct", "--method", "mixture", "--no-report", "--quiet"]
    assert run_sfisep(*arguments) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_dir()) == ["8000"]
    assert not (tmp_path / "out/report.html").exists()


def test_report_without_matplotlib_is_refused_before_any_work(
    run_sfisep: Run,
    arguments: list[object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run_sfisep(*arguments) == 2
    assert "sfisep[plots]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sr", 8000, "--sr", 16000], "--allow-upsampled"),
        (["--sr", 8000, "--example-sr", 6000], "--example-sr: expected one of 8000"),
        (["--example", "nobody"], "a track that is scored"),
        (["--example", "noise 0:3-9"], "within 0-2.25 s"),
        (["--method", "resampel"], "expected one of native"),
    ],
)
def test_refused_before_any_work(
    run_sfisep: Run,
    arguments: list[object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[object],
    message: str,
) -> None:
    assert run_sfisep(*arguments, "--no-report", *options) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
