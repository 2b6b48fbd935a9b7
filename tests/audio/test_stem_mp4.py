"""Stem files are read back by stempeg, musdb and mutagen."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutagen.mp4 import MP4

from sfisep_core.audio.file_writer import complete
from sfisep_core.audio.files import read_audio
from sfisep_core.audio.formats import Encoding, check_output_format
from sfisep_core.audio.stem_mp4 import StemFileWriter
from sfisep_core.audio.tag_reader import read_tags
from sfisep_core.audio.tags import Picture, Tags
from sfisep_core.errors import AudioFileError, ConfigError

pytestmark = pytest.mark.skipif(shutil.which("ffprobe") is None, reason="needs ffmpeg")

STEMS = ("drums", "bass", "other", "vocals")
PNG = b"\x89PNG\r\n\x1a\n and the rest"
TAGS = Tags(
    {
        "title": ("Song",),
        "artist": ("One", "Two"),
        "tracknumber": ("3/12",),
        "discnumber": ("x",),
        "bpm": ("120.5",),
        "initialkey": ("Am",),
    },
    Picture(PNG),
)


def signal(channels: int, frames: int, bits: int) -> Any:
    """Noise on the grid of the sample format, full scale included: track, channel, time."""
    steps = np.random.default_rng(0).integers(
        -(2 ** (bits - 1)), 2 ** (bits - 1), (5, channels, frames)
    )
    return (steps / 2 ** (bits - 1)).astype(np.float32)


def write(path: Path, samples: Any, rate: int, **settings: Any) -> Path:
    with StemFileWriter(
        path, stems=STEMS, sample_rate=rate, channels=samples.shape[1], **settings
    ) as writer:
        for start in range(0, samples.shape[-1], 5000):
            writer.write(samples[..., start : start + 5000])
        complete([writer])
    return path


def import_stempeg() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import stempeg
    return stempeg


@pytest.mark.slow
@pytest.mark.parametrize("rate", [44100, 8000, 48000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("encoding", "bits"), [("int16", 16), ("int24", 24)])
def test_stempeg_reads_every_sample(
    rate: int, channels: int, encoding: Encoding, bits: int, tmp_path: Path
) -> None:
    samples = signal(channels, 10_001, bits)
    path = write(tmp_path / "song.stem.mp4", samples, rate, encoding=encoding)
    stempeg = import_stempeg()
    read, read_rate = stempeg.read_stems(str(path), always_3d=True, dtype=np.float32)
    assert read_rate == rate
    np.testing.assert_array_equal(np.swapaxes(read, 1, 2).reshape(samples.shape), samples)
    info = stempeg.Info(str(path))
    assert info.title_streams == ["mixture", *STEMS]
    assert info.nb_samples_streams == [10_001] * 5
    assert [stream["disposition"]["default"] for stream in info.audio_streams] == [1, 0, 0, 0, 0]
    np.testing.assert_array_equal(read_audio(path)[0], samples[0])


def test_musdb_reads_every_sample(tmp_path: Path) -> None:
    samples = signal(2, 30_000, 16)
    path = write(tmp_path / "song.stem.mp4", samples, 44100, tags=TAGS)
    import_stempeg()
    import musdb

    track = musdb.MultiTrack(path=str(path), name="song", stem_id=0)
    for number in range(5):
        read = track.load_audio(str(path), number)
        np.testing.assert_array_equal(read.T.astype(np.float32), samples[number])


def test_box_for_players_and_tags(tmp_path: Path) -> None:
    path = write(tmp_path / "song.stem.mp4", signal(2, 5000, 16), 44100, tags=TAGS)
    content = path.read_bytes()
    # The box lies in the user data of the film, at the end of the file.
    moov = content[content.index(b"moov") - 4 :]
    assert int.from_bytes(moov[:4], "big") == len(moov)
    place = moov.index(b"stem{") - 4
    box = moov[place : place + int.from_bytes(moov[place : place + 4], "big")]
    described = json.loads(box[8:])
    assert [stem["name"] for stem in described["stems"]] == list(STEMS)
    assert all(len(stem["color"]) == 7 for stem in described["stems"])
    assert described["version"] == 1
    assert {part["enabled"] for part in described["mastering_dsp"].values()} == {False}
    expected = dict(TAGS.texts) | {"bpm": ("120",)}
    del expected["discnumber"]  # no number
    assert read_tags(path) == Tags(expected, Picture(PNG))
    tags: Any = MP4(path).tags
    assert tags["trkn"] == [(3, 12)]


def test_numbers_of_any_length(tmp_path: Path) -> None:
    """Tags of strangers: Python converts no text of more than 4300 digits."""
    tags = Tags({"tracknumber": ("9" * 9999,), "discnumber": ("0" * 9999,), "bpm": ("1" * 9999,)})
    file: Any = MP4(write(tmp_path / "song.stem.mp4", signal(2, 5000, 16), 44100, tags=tags))
    assert file["trkn"] == [(2**16 - 1, 0)]
    assert file["tmpo"] == [2**16 - 1]
    assert "disk" not in file


def test_file_without_samples_is_one_sample_of_silence(tmp_path: Path) -> None:
    path = write(tmp_path / "song.stem.mp4", signal(2, 0, 16), 44100)
    read, _ = import_stempeg().read_stems(str(path), always_3d=True)
    assert read.shape == (5, 1, 2)
    assert not read.any()


def test_error_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        path = tmp_path / "song.stem.mp4"
        with StemFileWriter(path, stems=STEMS, sample_rate=44100, channels=2) as writer:
            writer.write(signal(2, 9000, 16))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []
    missing = tmp_path / "missing" / "song.stem.mp4"
    with pytest.raises(AudioFileError, match=r"cannot write .*missing"):
        write(missing, signal(2, 10, 16), 44100)


@pytest.mark.parametrize(
    ("encoding", "channels", "rate", "expected"),
    [
        ("float32", 2, 44100, "int16 or int24 in STEM.MP4"),
        (None, 3, 44100, "1 to 2 channels in STEM.MP4"),
        (None, 2, 96000, "a sample rate of up to 65535 Hz in STEM.MP4"),
    ],
)
def test_what_a_stem_file_cannot_hold(
    encoding: str | None, channels: int, rate: int, expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        check_output_format("stem.mp4", encoding, channels, rate)
