"""The whole way through the command line: nothing is replaced."""

import hashlib
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch
from mutagen import File
from mutagen.flac import FLAC, Picture

from sfisep_core.audio.tag_reader import read_tags
from sfisep_core.audio.tags import NO_TAGS
from sfisep_core.data.musdb18 import read_stem
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.model_files import save_model

pytestmark = pytest.mark.slow

Run = Callable[..., int]

STEMS = ("vocals", "drums", "bass", "other")
VARIANTS = ("fd_mgf", "td_mgf", "td_mpgtf")
COVER = b"\x89PNG\r\n\x1a\n and the rest of a picture"
# The order of the stems in the published program's output.
PUBLISHED = ("drums", "bass", "other", "vocals")


@pytest.fixture
def published(shared_dir: Path) -> Path:
    """The folder of checkpoints as the published program writes them, and of what it computes."""
    folder = shared_dir / "fixtures" / "official"
    if not folder.is_dir():
        pytest.skip("no fixtures of the published program beside the checkout")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model file with random weights."""
    torch.manual_seed(0)
    tcn = {"bottleneck_channels": 8, "hidden_channels": 8, "num_layers": 1, "num_stacks": 1}
    settings = {
        "num_filters": 16,
        "mask": "free",
        "trunk": "shared",
        "gain_rule": "mixture-consistent",
        "tcn": {**tcn, "norm": "window"},
    }
    path = tmp_path / "tiny.safetensors"
    save_model(build_model("sfi-conv-tasnet", settings), path)
    return path


def noise(*shape: int) -> npt.NDArray[np.float64]:
    return np.asarray(np.random.default_rng(0).uniform(-0.5, 0.5, shape))


@pytest.mark.parametrize("variant", VARIANTS)
def test_published_models_give_the_published_stems(
    variant: str, run_sfisep: Run, published: Path, tmp_path: Path
) -> None:
    expected = np.load(published / f"sfi_convtasnet_{variant}.npz")
    mixture = expected["pipeline/mixture"]
    path = tmp_path / "mixture.wav"
    soundfile.write(path, mixture, 16000, subtype="DOUBLE")
    checkpoint = published / f"sfi_convtasnet_{variant}.best_checkpoint"
    options = ["--model", checkpoint, "--segment", 0, "--float32", "--device", "cpu", "--quiet"]
    assert run_sfisep("separate", path, "--out", tmp_path / "out", *options) == 0
    folder = tmp_path / "out" / f"{published.name}-{checkpoint.name}" / "mixture"
    assert sorted(file.name for file in folder.iterdir()) == sorted(f"{s}.wav" for s in STEMS)
    for number, stem in enumerate(PUBLISHED):
        written, rate = soundfile.read(folder / f"{stem}.wav")
        assert (rate, soundfile.info(folder / f"{stem}.wav").subtype) == (16000, "FLOAT")
        reference = expected["pipeline/scaled"][:, number].T
        error = np.linalg.norm(written - reference) / np.linalg.norm(reference)
        assert error < 1e-3, stem


@pytest.mark.parametrize("rate", [44100, 8000])
def test_stems_of_a_stereo_file_add_up(
    rate: int, run_sfisep: Run, model: Path, tmp_path: Path
) -> None:
    mixture = noise(4001, 2)
    soundfile.write(tmp_path / "song.flac", mixture, rate, subtype="PCM_24")
    arguments = [tmp_path / "song.flac", "-o", tmp_path / "out", "-m", model, "--float32", "-q"]
    assert run_sfisep("separate", *arguments) == 0
    stems = []
    for name in STEMS:
        stem, stem_rate = soundfile.read(tmp_path / f"out/{tmp_path.name}-tiny/song/{name}.wav")
        assert (stem_rate, stem.shape) == (rate, mixture.shape)
        stems.append(stem)
    error = np.linalg.norm(np.sum(stems, axis=0) - mixture) / np.linalg.norm(mixture)
    assert error < 1e-4  # 80 dB


@pytest.mark.parametrize("container", ["wav", "flac", "mp3", "ogg", "opus"])
def test_album_keeps_its_tree_its_tags_and_its_cover(
    container: str, run_sfisep: Run, model: Path, tmp_path: Path
) -> None:
    album, out = tmp_path / "album", tmp_path / "out"
    for disc in ("1", "2"):
        (album / f"cd {disc}").mkdir(parents=True)
        path = album / f"cd {disc}" / "01 intro.flac"
        soundfile.write(path, noise(4800, 2), 48000)
        song: Any = FLAC(path)
        song["title"], song["artist"], song["album"] = "Intro", "Someone", "Discs"
        song["tracknumber"], song["discnumber"], song["date"] = "1", disc, "2026"
        cover: Any = Picture()
        cover.type, cover.mime, cover.data = 3, "image/png", COVER
        song.add_picture(cover)
        song.save()
    arguments = [album, "--out", out, "--model", model, "--format", container, "--quiet"]
    assert run_sfisep("separate", *arguments) == 0
    folder = out / f"{tmp_path.name}-tiny"
    tree = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert tree == {f"cd {d}/01 intro/{stem}.{container}" for d in "12" for stem in STEMS}
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    made_by = f"sfisep {version('sfisep')}, model {tmp_path.name}-tiny, sha256 {digest}"
    for disc in ("1", "2"):
        for stem in STEMS:
            path = folder / f"cd {disc}/01 intro/{stem}.{container}"
            tags = read_tags(path)
            assert {name: value for name, (value,) in tags.texts.items()} == {
                "title": f"Intro ({stem})",
                "artist": "Someone",
                "album": "Discs",
                "tracknumber": "1",
                "discnumber": disc,
                "date": "2026",
            }
            assert tags.picture is not None
            assert tags.picture.content == COVER
            written: Any = File(path).tags
            named = "TXXX:SEPARATED_BY" if container in ("wav", "mp3") else "separated_by"
            assert list(getattr(written[named], "text", written[named])) == [made_by]

    assert run_sfisep("separate", *arguments, "--no-tags") == 0
    for path in folder.rglob(f"*.{container}"):
        assert read_tags(path) == NO_TAGS
        assert made_by.encode() not in path.read_bytes()


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="needs ffmpeg")
def test_stem_file_holds_the_mixture_and_what_wav_files_do(
    run_sfisep: Run, model: Path, tmp_path: Path
) -> None:
    song = tmp_path / "song.wav"
    soundfile.write(song, 1.5 * noise(30_001, 2), 44100, subtype="FLOAT")  # stems beyond full scale
    arguments = [song, "--out", tmp_path, "--model", model, "--int16", "--quiet"]
    assert run_sfisep("separate", *arguments, "--format", "stem.mp4") == 0
    assert run_sfisep("separate", *arguments) == 0
    folder = tmp_path / f"{tmp_path.name}-tiny"
    names = ("drums", "bass", "other", "vocals")
    musdb18 = ("mixture", *names)
    read = {name: read_stem(folder / "song.stem.mp4", name) for name in musdb18}
    for name in names:
        written, _ = soundfile.read(folder / f"song/{name}.wav", dtype="float32")
        gain = np.vdot(written, read[name].T) / np.vdot(written, written)
        assert gain == pytest.approx(1, abs=0.5)
        np.testing.assert_allclose(read[name].T, gain * written, atol=2**-14)
    total = np.sum([read[name] for name in names], axis=0)
    np.testing.assert_allclose(total, read["mixture"], atol=3 * 2**-15)
    mixture, _ = soundfile.read(song, dtype="float32")
    level = np.abs(read["mixture"]).max() / np.abs(mixture).max()
    np.testing.assert_allclose(read["mixture"].T, level * mixture, atol=2**-14)


def test_lower_rate_in_integers(run_sfisep: Run, model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.wav", noise(4410), 44100)
    options = ["--out", tmp_path / "out", "--model", model, "--sr", 8000, "--format", "flac"]
    assert run_sfisep("separate", tmp_path / "song.wav", *options, "--quiet") == 0
    for name in STEMS:
        info = soundfile.info(tmp_path / f"out/{tmp_path.name}-tiny/song/{name}.flac")
        assert (info.samplerate, info.frames, info.channels) == (8000, 800, 1)
        assert info.subtype == "PCM_24"


def test_bad_inputs_are_one_line_each_and_the_rest_is_done(
    run_sfisep: Run, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / f"{tmp_path.name}-tiny"
    samples = noise(2000, 2)
    for name in ("first.wav", "last.wav", "blocked.wav"):
        soundfile.write(tmp_path / name, samples, 8000)
    (tmp_path / "text.wav").write_text("these are the lyrics, not the song\n" * 10)
    (tmp_path / "empty.wav").touch()
    samples[1000, 1] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, 8000, subtype="FLOAT")
    out.mkdir(parents=True)
    (out / "blocked").write_text("a file where the folder of the stems would be")

    names = ("first", "missing", "text", "empty", "nan", "blocked", "last")
    inputs = [tmp_path / f"{name}.wav" for name in names]
    arguments = ["--out", tmp_path / "out", "--model", model, "--device", "cpu", "--quiet"]
    assert run_sfisep("separate", *inputs, *arguments) == 1

    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert [line[:7] for line in lines] == ["error: "] * 5
    said = {
        "missing.wav": "no such file",
        "text.wav": "expected audio, found data",
        "empty.wav": "an empty file (0 bytes)",
        "nan.wav": "expected finite samples, found nan at 0.125 s in channel 2 of 2",
        f"out/{tmp_path.name}-tiny/blocked": "File exists",
    }
    for line, (name, text) in zip(lines, said.items(), strict=True):
        assert str(tmp_path / name) in line
        assert text in line
    # What could be done is done, and nothing else is left behind.
    written = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    complete = [Path(track) / f"{s}.wav" for track in ("first", "last") for s in STEMS]
    assert written == sorted([Path("blocked"), *complete])
    assert {path.name for path in out.iterdir()} == {"blocked", "first", "last"}


class MakesFolder:
    """Pickles to a call that leaves a trace."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.mkdir, (self.path,)


@pytest.mark.parametrize("archive", [True, False])
def test_code_in_a_model_file_is_not_run(
    archive: bool,
    run_sfisep: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    marker, path = tmp_path / "marker", tmp_path / "best_checkpoint"
    soundfile.write(tmp_path / "song.wav", noise(800), 8000)
    torch.save(
        {"state_dict": MakesFolder(marker), "args": {}},
        path,
        _use_new_zipfile_serialization=archive,
    )
    torch.load(path, weights_only=False)
    marker.rmdir()  # the trap works
    arguments = ["--out", tmp_path / "out", "--model", path, "--device", "cpu", "--quiet"]
    assert run_sfisep("separate", tmp_path / "song.wav", *arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert str(path) in line
    assert not marker.exists()
    assert not (tmp_path / "out").exists()
