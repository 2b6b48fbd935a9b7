import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

Run = Callable[..., int]


@pytest.fixture
def demo_settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the demo corpus was asked for."""
    asked: dict[str, object] = {}

    def generate(
        directory: Path, *, progress: Callable[[object], None], **settings: object
    ) -> None:
        asked.update(directory=directory, **settings)
        progress(SimpleNamespace(track="train/0", done=1, total=2))

    module = SimpleNamespace(generate_demo_corpus=generate)
    monkeypatch.setitem(sys.modules, "sfisep_core.data.demo_corpus", module)
    return asked


def test_demo_defaults(run_sfisep: Run, demo_settings: dict[str, object], tmp_path: Path) -> None:
    assert run_sfisep("prepare-data", "--demo", tmp_path) == 0
    assert demo_settings == {
        "directory": tmp_path,
        "num_train": 8,
        "num_valid": 2,
        "num_test": 2,
        "seconds": 30.0,
        "sample_rate": 44100,
        "seed": 0,
    }


@pytest.mark.parametrize(
    ("tracks", "split"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (10, (6, 2, 2)), (50, (30, 10, 10))]
)
def test_demo_options(
    tracks: int,
    split: tuple[int, int, int],
    run_sfisep: Run,
    demo_settings: dict[str, object],
    tmp_path: Path,
) -> None:
    options = ["--tracks", tracks, "--seconds", 1.5, "--sr", 8000, "--seed", 7]
    assert run_sfisep("prepare-data", "--demo", tmp_path, *options) == 0
    assert demo_settings == {
        "directory": tmp_path,
        "num_train": split[0],
        "num_valid": split[1],
        "num_test": split[2],
        "seconds": 1.5,
        "sample_rate": 8000,
        "seed": 7,
    }


@pytest.mark.parametrize(
    ("options", "skipped", "shown", "code"),
    [
        ([], [], "3 tracks in out: 2 train, 1 valid, 0 test\n", 0),
        (
            [],
            [("b", "no drums")],
            "error: skipped b: no drums\n3 tracks in out: 2 train, 1 valid, 0 test\n",
            1,
        ),
        (["-q"], [("b", "no drums")], "error: skipped b: no drums\n", 1),
    ],
)
def test_data_set(
    options: list[str],
    skipped: list[tuple[str, str]],
    shown: str,
    code: int,
    run_sfisep: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    asked: dict[str, object] = {}

    def prepare(
        source: Path, out: Path, *, progress: Callable[[object], None], **settings: object
    ) -> SimpleNamespace:
        asked.update(source=source, out=out, **settings)
        progress(SimpleNamespace(track="a", done=1, total=2))
        return SimpleNamespace(
            tracks=[SimpleNamespace(split=split) for split in ("train", "valid", "train")],
            skipped=skipped,
        )

    module = SimpleNamespace(prepare_dataset=prepare)
    monkeypatch.setitem(sys.modules, "sfisep_core.data.prepare", module)
    arguments = ["--out", "out", "--sr", 8000, "--exclude", "a:0-1", "--exclude", "a:5-6"]
    assert run_sfisep("prepare-data", tmp_path, *arguments, *options) == code
    assert asked == {
        "source": tmp_path,
        "out": Path("out"),
        "sample_rate": 8000,
        "exclude": ["a:0-1", "a:5-6"],
    }
    assert capsys.readouterr().err == shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "sfisep prepare-data needs SOURCE and --out DIR, or --demo DIR"),
        (["."], "sfisep prepare-data needs SOURCE and --out DIR, or --demo DIR"),
        (
            ["--demo", "x", "--out", "y"],
            "SOURCE, --out, --exclude are not for --demo; given: --out",
        ),
        (
            [".", "--out", "y", "--seed", "0", "--tracks", "5"],
            "--tracks, --seconds, --seed are for --demo only; given: --tracks, --seed",
        ),
    ],
)
def test_what_would_have_no_effect_is_refused(
    arguments: list[str], message: str, run_sfisep: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sfisep("prepare-data", *arguments) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_malformed_exclusion_is_a_usage_error(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run_sfisep("prepare-data", tmp_path, "--out", out, "--exclude", "song:28") == 2
    assert "exclusion 'song:28': expected TRACK:START-END" in capsys.readouterr().err
    assert not out.exists()


def test_out_whose_name_is_too_long(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "song").mkdir()
    (tmp_path / "song/vocals.wav").touch()
    assert run_sfisep("prepare-data", tmp_path, "--out", tmp_path / ("x" * 300)) == 1
    assert "cannot be made: File name too long" in capsys.readouterr().err
