import json
import webbrowser
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

Run = Callable[..., int]


@pytest.fixture
def stems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = Path("stems of [a] song")
    folder.mkdir()
    for name in ("vocals", "drums"):
        soundfile.write(folder / f"{name}.wav", np.zeros(800), 8000)
    return folder


def test_page_is_made_and_its_path_printed(
    run_sfisep: Run, stems: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sfisep("listen", stems) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{stems}/listen.html\n"
    assert shown.err == ""
    assert (stems / "listen.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_what_browsers_may_not_play_is_warned_of(
    run_sfisep: Run, stems: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(stems / "bass.aiff", np.zeros(800), 8000)
    assert run_sfisep("listen", stems) == 0
    expected = f"warning: {stems}/bass.aiff: not all browsers play AIFF (int16): convert it to "
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("opens", [True, False])
def test_page_is_opened_on_request(
    run_sfisep: Run,
    stems: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    opens: bool,
) -> None:
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or opens)
    assert run_sfisep("listen", stems, "--open") == 0
    assert opened == [(Path.cwd() / stems / "listen.html").as_uri()]
    told = "no web browser was found: open " in capsys.readouterr().err
    assert told is not opens


def test_folder_without_stems_is_an_error(
    run_sfisep: Run, stems: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sfisep("listen", stems.absolute().parent) == 1
    shown = capsys.readouterr()
    assert "expected audio files in it, found none: name one of the folders below it" in shown.err
    assert shown.out == ""


@pytest.mark.slow
@pytest.mark.usefixtures("stems")
def test_page_of_a_separation(run_sfisep: Run, capsys: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 4000)
    soundfile.write("song.wav", noise, 8000)
    arguments = ("separate", "song.wav", "--model", "sfi-conv-tasnet-small", "--page")
    assert run_sfisep(*arguments, "--json") == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    page = Path("separated/sfi-conv-tasnet-small/song/listen.html")
    assert file["page"] == str(page)
    text = page.read_text(encoding="utf-8")
    assert "<h1>song</h1>" in text
    assert 'src="./vocals.wav"' in text
    assert run_sfisep(*arguments, "--filename", "{track}-{stem}.{ext}") == 0
    flat = page.parents[1] / "song-listen.html"
    assert str(flat) in capsys.readouterr().err.splitlines()
    assert 'src="./song-vocals.wav"' in flat.read_text(encoding="utf-8")


def test_page_of_stems_that_are_there(
    run_sfisep: Run, stems: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write("song.wav", np.zeros(800), 8000)
    folder = Path("separated/default/song")
    folder.mkdir(parents=True)
    for name in ("vocals", "drums"):
        (stems / f"{name}.wav").rename(folder / f"{name}.wav")
    arguments = ("separate", "song.wav", "--stems", "vocals,drums", "--skip-existing", "--page")
    assert run_sfisep(*arguments) == 0
    assert "song.wav: its stems are all there already" in capsys.readouterr().err
    page = folder / "listen.html"
    first = page.stat()
    assert run_sfisep(*arguments) == 0
    assert page.stat() == first  # it is left alone, too
    page.unlink()
    (folder / "drums.wav").write_bytes(b"no audio")
    assert run_sfisep(*arguments) == 1
    assert "drums.wav" in capsys.readouterr().err


@pytest.mark.usefixtures("stems")
def test_page_of_one_file_for_all_stems_is_refused(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write("song.wav", np.zeros(800), 8000)
    assert run_sfisep("separate", "song.wav", "--format", "stem.mp4", "--page") == 2
    assert "stem.mp4 is one for all: leave --page out" in capsys.readouterr().err
    assert not Path("separated").exists()


@pytest.mark.usefixtures("stems")
def test_page_and_standard_output_exclude_each_other(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write("song.wav", np.zeros(800), 8000)
    arguments = ("separate", "song.wav", "--two-stems", "vocals", "--out", "-", "--page")
    assert run_sfisep(*arguments) == 2
    assert "--page writes a page beside the stems" in capsys.readouterr().err
