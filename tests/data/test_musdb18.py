import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import yaml

from sfisep_core.data import musdb18
from sfisep_core.data.manifest import PreparedTrack
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.errors import AudioFileError, DatasetError

pytestmark = pytest.mark.slow

RATE = 44100
FRAMES = RATE + 17

needs_ffmpeg = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")),
    reason="needs the programs ffmpeg and ffprobe",
)


def noise(stream: str, *, channels: int = 2) -> npt.NDArray[np.int16]:
    """Give 16-bit samples, shape (frames, channels); the mixture is the sum of the others."""
    if stream == "mixture":
        return sum((noise(s, channels=channels) for s in musdb18.STREAMS[1:]), np.int16(0))
    rng = np.random.default_rng(musdb18.STREAMS.index(stream))
    return rng.integers(-4000, 4000, (FRAMES, channels), dtype=np.int16)


def tone(stream: str) -> npt.NDArray[np.float64]:
    frequency = 1000 * (1 + musdb18.STREAMS.index(stream))
    return 0.1 * np.sin(2 * np.pi * frequency * np.arange(FRAMES) / RATE)


def make_stem_file(
    path: Path,
    *,
    codec: str = "alac",
    streams: tuple[str, ...] = musdb18.STREAMS,
    channels: int = 2,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["ffmpeg", "-nostdin", "-v", "error"]
    for stream in streams:
        wav = path.with_name(f"{stream}.wav")
        # Noise shows every sample of a lossless codec, a tone survives a lossy one.
        samples = noise(stream, channels=channels) if codec == "alac" else tone(stream)
        soundfile.write(wav, samples, RATE)
        command += ["-i", str(wav)]
    for number in range(len(streams)):
        command += ["-map", str(number)]
    subprocess.run([*command, "-c:a", codec, str(path)], check=True)
    for stream in streams:
        path.with_name(f"{stream}.wav").unlink()


def read(out: Path, track: PreparedTrack, stem: str) -> npt.NDArray[np.int16]:
    samples, rate = soundfile.read(out / track.files[stem], dtype="int16", always_2d=True)
    assert rate == track.sample_rate
    return samples


def test_validation_tracks_are_those_of_the_package() -> None:
    spec = importlib.util.find_spec("musdb")  # which is found, not imported: that needs ffmpeg
    assert spec is not None
    assert spec.origin is not None
    settings = yaml.safe_load(
        Path(spec.origin).with_name("configs").joinpath("mus.yaml").read_text()
    )
    assert sorted(musdb18.VALIDATION_TRACKS) == sorted(settings["validation_tracks"])
    assert len(musdb18.VALIDATION_TRACKS) == 14
    order = sorted(settings["stem_ids"], key=lambda name: settings["stem_ids"][name])
    assert tuple(order) == musdb18.STREAMS


@needs_ffmpeg
def test_streams_are_read_in_their_order(tmp_path: Path) -> None:
    names = ("train/Leaf - Summerghost", "train/no dash")
    for name in names:
        make_stem_file(tmp_path / f"in/{name}.stem.mp4")
    result = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert result.skipped == []
    assert [f"{track.split}/{track.name}" for track in result.tracks] == [
        "train/no dash",
        "valid/Leaf - Summerghost",
    ]
    for track in result.tracks:
        assert (track.sample_rate, track.channels, track.frames) == (RATE, 2, FRAMES)
        assert ("mixture" in track.files) == (track.split != "train")
        for stem in track.files:  # 16 bits in, lossless codec, 16 bits out
            np.testing.assert_array_equal(read(tmp_path / "out", track, stem), noise(stem))
    again = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert (again.written, again.tracks) == (0, result.tracks)


@needs_ffmpeg
def test_aac_as_musdb18_has_it(tmp_path: Path) -> None:
    # MUSDB18 has AAC. Its last frame is padded, and the header announces another length.
    make_stem_file(tmp_path / "in/train/a.stem.mp4", codec="aac")
    result = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert result.skipped == []
    (track,) = result.tracks
    assert FRAMES <= track.frames <= FRAMES + 2048
    for stem in track.stems:
        spectrum = np.abs(np.fft.rfft(read(tmp_path / "out", track, stem)[:RATE, 0]))
        # Bins of 1 Hz; the amplitude of the tone is 0.1 of full scale.
        assert np.argmax(spectrum) == 1000 * (1 + musdb18.STREAMS.index(stem))
        assert spectrum.max() * 2 / RATE == pytest.approx(3276.8, rel=0.1)
    assert (
        prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out")).written
        == 0
    )


@needs_ffmpeg
def test_one_channel(tmp_path: Path) -> None:
    path = tmp_path / "a.stem.mp4"
    make_stem_file(path, channels=1)
    assert (musdb18.read_stem_info(path).channels, musdb18.read_stem_info(path).frames) == (
        1,
        FRAMES,
    )
    audio = musdb18.read_stem(path, "vocals")
    assert (audio.dtype, audio.shape) == (np.float32, (1, FRAMES))
    np.testing.assert_array_equal(audio * 32768, noise("vocals", channels=1).T)


@needs_ffmpeg
def test_unusable_files_are_skipped_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "in/train"
    make_stem_file(folder / "good.stem.mp4")
    make_stem_file(folder / "four.stem.mp4", streams=musdb18.STREAMS[:4])
    content = (folder / "good.stem.mp4").read_bytes()
    (folder / "cut.stem.mp4").write_bytes(content[: len(content) // 2])
    (folder / "text.stem.mp4").write_text("these are the lyrics")
    (folder / "good.stem.mp4").rename(folder / f"{next(iter(musdb18.VALIDATION_TRACKS))}.stem.mp4")
    result = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert [track.split for track in result.tracks] == ["valid"]
    reasons = dict(result.skipped)
    assert list(reasons) == ["train/cut", "train/four", "train/text"]
    for name in ("cut", "text"):
        assert f"cannot read '{folder / name}.stem.mp4'" in reasons[f"train/{name}"]
    assert "Invalid data found" in reasons["train/cut"]
    assert "expected an MP4 file" in reasons["train/text"]
    streams = "expected 5 audio streams of one format (mixture, drums, bass, other, vocals), found"
    assert streams in reasons["train/four"]


@needs_ffmpeg
def test_file_that_can_be_decoded_in_part_only(tmp_path: Path) -> None:
    path = tmp_path / "a.stem.mp4"
    make_stem_file(path, codec="aac")
    options = ["-map", "0", "-c", "copy", "-movflags", "faststart"]
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", path, *options, tmp_path / "b.stem.mp4"]
    subprocess.run(command, check=True)
    whole = (tmp_path / "b.stem.mp4").read_bytes()
    (tmp_path / "b.stem.mp4").write_bytes(whole[: 3 * len(whole) // 4])
    with pytest.raises(AudioFileError, match=r"b\.stem\.mp4"):
        musdb18.read_stem(tmp_path / "b.stem.mp4", "vocals")


@needs_ffmpeg
def test_ffmpeg_does_not_eat_the_input_of_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "a.stem.mp4"
    make_stem_file(path)
    ours, theirs = os.pipe()
    os.write(theirs, b"q next line of a list of files")
    os.close(theirs)
    saved = os.dup(0)
    try:
        os.dup2(ours, 0)
        assert musdb18.read_stem(path, "bass").shape == (2, FRAMES)
        assert os.read(0, 100) == b"q next line of a list of files"
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(ours)


@pytest.mark.parametrize("there", [(), ("ffmpeg",)])
def test_missing_ffmpeg_is_told_before_any_work(
    there: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in there:
        (programs / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(programs))
    (tmp_path / "in/train").mkdir(parents=True)
    (tmp_path / "in/train/a.stem.mp4").touch()
    missing = ", ".join(name for name in ("ffmpeg", "ffprobe") if name not in there)
    with pytest.raises(DatasetError, match=f"not found: {missing}: install ffmpeg"):
        prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@needs_ffmpeg
@pytest.mark.parametrize(
    "script",
    [
        "ffconcat version 1.0\nfile secret.mp4\n",
        "#EXTM3U\n",
        "",
        pytest.param(
            '<!--ftypjp2 --><MPD profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>'
            "<AdaptationSet><Representation><BaseURL>secret.mp4</BaseURL></Representation>"
            "</AdaptationSet></Period></MPD>",
            id="DASH with the name of an MP4's first box",
        ),
        "v=0\nftypjp2 \nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n",
    ],
)
def test_playlists_are_not_given_to_ffmpeg(script: str, tmp_path: Path) -> None:
    (tmp_path / "a.stem.mp4").write_text(script)
    for read in (musdb18.read_stem_info, lambda path: musdb18.read_stem(path, "bass")):
        with pytest.raises(AudioFileError, match=r"a\.stem\.mp4.*expected an MP4 file"):
            read(tmp_path / "a.stem.mp4")
