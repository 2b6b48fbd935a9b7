import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from sfisep_cli import render
from sfisep_core.evaluation import demo
from sfisep_core.evaluation.demo import DEMO_MODEL

pytestmark = pytest.mark.slow

Run = Callable[..., int]
STEMS = ("vocals", "drums", "bass", "other")


@pytest.fixture(autouse=True)
def short_song_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is shown does not depend on the song's length: 2 s of it take a tenth of the time."""
    monkeypatch.setattr(demo, "SONG_SECONDS", 2.0)
    monkeypatch.chdir(tmp_path)


def keys(content: object) -> object:
    """The structure of a JSON document: its keys, with the kinds of its values."""
    if isinstance(content, dict):
        return {key: keys(value) for key, value in content.items()}
    if isinstance(content, list):
        return [keys(value) for value in content]
    return type(content).__name__


def test_json_report_has_the_pinned_schema(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sfisep("demo", "--json", "--sr", "16000", "--sr", "11025") == 0
    report = json.loads(capsys.readouterr().out)
    scores = dict.fromkeys(("si_sdr", "si_sdr_improvement", "sdr", "sdr_improvement"), "float")
    rate = {
        "sample_rate": "int",
        "channels": "int",
        "frames": "int",
        "seconds": "float",
        "elapsed_seconds": "float",
        "stems": dict.fromkeys(STEMS, "str"),
        "scores": dict.fromkeys(STEMS, scores),
    }
    assert keys(report) == {
        "schema": "str",
        "version": "str",
        "model": {"name": "str", "sha256": "str"},
        "device": "str",
        "mixture": "str",
        "true_stems": dict.fromkeys(STEMS, "str"),
        "rates": [rate, rate, rate],
        "failed": "int",
    }
    assert report["schema"] == "sfisep-demo-1"
    assert report["model"]["name"] == DEMO_MODEL
    assert len(report["model"]["sha256"]) == 64
    assert [r["sample_rate"] for r in report["rates"]] == [44100, 16000, 11025]
    assert [r["frames"] for r in report["rates"]] == [88200, 32000, 22050]
    assert Path(report["mixture"]) == Path("sfisep-demo/song/mixture.wav")
    assert all(Path(path).is_file() for r in report["rates"] for path in r["stems"].values())


def test_80_columns_break_no_cell_path_or_command(
    run_sfisep: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(render.output, "_width", 80)
    out = tmp_path / "a folder whose name is long enough to be broken over the lines of a terminal"
    assert run_sfisep("demo", "--out", out, "--sr", "192000") == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [
        [cell.strip() for cell in line.strip("│┃").split(line[0])]
        for line in (lines[1], *lines[3:11])
    ]
    assert cells[0] == ["rate", "stem", "SI-SDR", "over mixture", "SDR", "over mixture"]
    assert [row[:2] for row in cells[1:]] == [
        [f"{rate} Hz", stem] for rate in (44100, 192000) for stem in STEMS
    ]
    assert max(map(len, lines[:13])) <= 80
    indented = [line.strip() for line in lines if line.startswith("  ")]
    paths, commands = indented[:-5], indented[-5:]
    assert paths[0] == str(out / "song/mixture.wav")
    assert len(paths) == 13
    assert all(Path(path).is_file() for path in paths)
    words = [shlex.split(command) for command in commands]
    assert words[0][:3] == ["sfisep", "listen", str(Path(paths[5]).parent)]
    assert words[1][:3] == ["sfisep", "separate", str(out / "song/mixture.wav")]
    assert [w[1] for w in words] == ["listen", "separate", "separate", "prepare-data", "evaluate"]


def test_first_commands_to_try_next_work(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sfisep("demo") == 0
    lines = capsys.readouterr().out.splitlines()
    first = lines.index("To try next:") + 1
    for command in lines[first : first + 2]:
        assert run_sfisep(*shlex.split(command)[1:]) == 0
    assert Path(f"sfisep-demo/{DEMO_MODEL}/44100/listen.html").is_file()
    assert Path(f"separated/{DEMO_MODEL}/mixture/vocals.wav").is_file()


def test_quiet_prints_nothing_and_works_all_the_same(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sfisep("demo", "-q", "--out", "x") == 0
    assert capsys.readouterr() == ("", "")
    assert Path(f"x/{DEMO_MODEL}/8000/vocals.wav").is_file()


def test_model_is_named_in_folders_and_commands(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    from sfisep_core.pretrained.registry import BUNDLED

    copy = Path("my model.safetensors")
    copy.write_bytes(BUNDLED["sfi-conv-tasnet-small"].read_bytes())
    assert run_sfisep("demo", "--model", copy) == 0
    shown = capsys.readouterr().out
    assert f"\n  sfisep-demo/{Path.cwd().name}-my model/8000/vocals.wav\n" in shown
    assert "\n  sfisep separate YOUR-SONG.mp3 --model 'my model.safetensors'\n" in shown


def test_stems_no_better_than_the_mixture_fail(
    run_sfisep: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "si_sdr", lambda **_: 1.0)
    assert run_sfisep("demo", "--json") == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["failed"] == 8
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "vocals at 44100 Hz +0.0 dB, " in errors[0]
    assert "other at 8000 Hz +0.0 dB: try sfi-conv-tasnet-small" in errors[0]


def test_model_with_other_stems_is_refused_before_it_is_downloaded(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sfisep("demo", "--model", "spleeter-2stems") == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: model spleeter-2stems: expected stems of the demo song (vocals, drums, bass, "
        "other), got accompaniment: take a model whose stems have these names"
    ]
    assert not Path("sfisep-demo").exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--out", "file"], 2, "is a file"),
        (
            ["--out", "file/below"],
            1,
            "output folder file/below: expected a folder that can be made",
        ),
        (["--out", "."], 1, "expected an empty folder or one of an earlier demo, found 'file'"),
        (["--out", "x" * 300], 1, "got File name too long: choose another folder"),
        (["--sr", "3999"], 2, "equal to 4000"),
        (["--sr", "400000"], 2, "equal to 384000"),
        (["--model", "nothing"], 2, "model nothing: expected a bundled model"),
    ],
)
def test_what_cannot_be_is_told(
    options: list[str],
    code: int,
    message: str,
    run_sfisep: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("file").write_text("in the way")
    assert run_sfisep("demo", *options) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert sorted(path.name for path in Path().iterdir()) == ["file"]
