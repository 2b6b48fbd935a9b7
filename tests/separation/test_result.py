"""Saving what was separated in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sfisep_core.audio.files import write_audio
from sfisep_core.errors import AudioFileError, ConfigError
from sfisep_core.separation.output import Output
from sfisep_core.separation.result import Separation
from sfisep_core.separation.separator import Separator
from tests.separation.divider import Divider, noise


@pytest.fixture
def separator() -> Separator:
    """Stems of 1.5 and 0.75 times the mixture, which exceed full scale."""
    model = Divider(shares=(1.5, 0.75))
    model.sources = ("drums", "vocals")
    return Separator(model, device="cpu")


@pytest.mark.parametrize(
    "output",
    [
        {},
        {"encoding": "float32"},
        {"container": "flac", "encoding": "int16"},
        {"clip_mode": "clamp"},
        {"two_stems": "drums", "filename": "{track}/{stem}.{ext}"},
        {"stems": ("vocals",), "residual": True},
        {"container": "ogg"},
    ],
    ids=str,
)
@pytest.mark.parametrize("sample_rate", [None, 16000])
def test_files_are_those_of_separate_file(
    output: dict[str, Any], sample_rate: int | None, separator: Separator, tmp_path: Path
) -> None:
    mixture = 2 * noise(2, 5000)
    write_audio(tmp_path / "song.wav", mixture, sample_rate=8000, encoding="float32")
    written = separator.separate_file(
        tmp_path / "song.wav",
        out_dir=tmp_path / "files",
        output=Output(**output, tags=False),
        sample_rate=sample_rate,
    )
    result = separator.separate((mixture, 8000), sample_rate=sample_rate)
    saved = result.save(tmp_path / "saved", track="song", output=Output(**output))
    assert saved.gain_db == pytest.approx(written.gain_db)
    assert list(saved.stems) == list(written.stems)
    for name, file in written.stems.items():
        assert saved.stems[name].relative_to(tmp_path / "saved") == file.relative_to(
            tmp_path / "files"
        )
        assert saved.stems[name].read_bytes() == file.read_bytes()


def test_one_channel_without_an_axis(separator: Separator, tmp_path: Path) -> None:
    mixture = 0.5 * noise(5000)
    saved = separator.separate((mixture, 8000)).save(tmp_path, output=Output(encoding="float32"))
    stem, rate = soundfile.read(saved.stems["drums"], dtype="float32")
    assert (stem.shape, rate, saved.gain_db) == ((5000,), 8000, 0.0)
    np.testing.assert_allclose(stem, 1.5 * mixture, atol=1e-6)


def test_mixture_is_what_was_separated_and_stays_so(separator: Separator) -> None:
    mixture = noise(2, 5000)
    expected = mixture.copy()
    result = separator.separate((mixture, 8000))
    mixture[:] = 0  # filled again, as by a program that reads the next song
    np.testing.assert_array_equal(result.mixture, expected)
    resampled = separator.separate((expected, 8000), sample_rate=16000)
    assert resampled.mixture.shape == resampled.stems["drums"].shape == (2, 10000)


def test_error_on_one_stem_leaves_none(separator: Separator, tmp_path: Path) -> None:
    (tmp_path / "vocals.wav").mkdir()  # in the way
    with pytest.raises(AudioFileError, match=r"vocals\.wav': .* found a folder of that name"):
        separator.separate((noise(2, 500), 8000)).save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["vocals.wav"]


def test_what_cannot_be_saved_makes_no_folder(separator: Separator, tmp_path: Path) -> None:
    result = separator.separate((noise(9, 500), 8000))
    for output, message in (
        (Output(container="flac"), "1 to 8 channels in FLAC, got 9"),
        (Output(two_stems="bass"), "stem 'bass': expected one of this model's, vocals, drums"),
    ):
        with pytest.raises(ConfigError, match=message):
            result.save(tmp_path / "out", output=output)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((2, 12000), "Separation(vocals, drums; 2 channels, 1.50 s at 8000 Hz)"),
        ((1, 0), "Separation(vocals, drums; 1 channel, 0.00 s at 8000 Hz)"),
        ((80,), "Separation(vocals, drums; 1 channel, 0.01 s at 8000 Hz)"),
    ],
)
def test_repr_is_short(shape: tuple[int, ...], text: str) -> None:
    samples = np.zeros(shape, dtype=np.float32)
    assert repr(Separation({"vocals": samples, "drums": samples}, 8000, samples)) == text
