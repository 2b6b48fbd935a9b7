"""The contract of separated files: rate, channels, length and sum, for whatever comes in.

In every cell a model that gives each stem a share of the mixture stands for a real one. Stereo is
run at all rates and lengths, other numbers of channels at some. One cell in ten, drawn at random,
is run again with the bundled model.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sfisep_core.audio.files import check_output_format, read_audio
from sfisep_core.errors import ConfigError
from sfisep_core.separation.separator import Output, Separator
from tests.separation.divider import Divider

pytestmark = pytest.mark.slow

FORMATS = {"wav": "PCM_24", "flac": "PCM_16", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}
RATES = (4000, 8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000)
CHANNELS = (1, 2, 6, 9)
LENGTHS = (0, 1, 2, 19, 480, 1153, 9001)

SOME_RATES = (4000, 11025, 44100, 192000)
SOME_LENGTHS = (0, 1, 9001)

Cell = tuple[str, int, int, int]


def fits(container: str, channels: int, rate: int) -> bool:
    try:
        check_output_format(container, None, channels, rate)
    except ConfigError:
        return False
    return True


def cells(container: str, rate: int) -> Iterator[Cell]:
    for channels in CHANNELS:
        if fits(container, channels, rate) and (channels == 2 or rate in SOME_RATES):
            lengths = LENGTHS if channels == 2 else SOME_LENGTHS
            yield from ((container, rate, channels, frames) for frames in lengths)


def write_music(path: Path, cell: Cell) -> None:
    container, rate, channels, frames = cell
    draws = np.random.default_rng([rate, channels, frames]).standard_normal((frames, channels))
    music = 0.05 * np.cumsum(draws, axis=0) / np.sqrt(max(frames, 1))
    with soundfile.SoundFile(
        path, "w", samplerate=rate, channels=channels, subtype=FORMATS[container]
    ) as file:
        for start in range(0, frames, 4096):  # one long write ends the process in Vorbis
            file.write(music[start : start + 4096])


def check(separator: Separator, cell: Cell, folder: Path, target_rate: int | None = None) -> None:
    container, rate, channels, frames = cell
    path = folder / f"song.{container}"
    write_music(path, cell)
    try:
        mixture, read_rate = read_audio(path)
    except Exception:
        assert frames == 0  # some containers cannot hold nothing at all
        return
    # What the container keeps of the length is not the separator's doing.
    assert (read_rate, mixture.shape[0]) == (rate, channels)
    output = Output(encoding="float32")
    result = separator.separate_file(
        path, out_dir=folder / "out", sample_rate=target_rate, output=output
    )
    expected_frames = -(-mixture.shape[1] * (target_rate or rate) // rate)
    stems = []
    for file in result.stems.values():
        info = soundfile.info(file)
        assert (info.samplerate, info.channels) == (target_rate or rate, channels), cell
        assert info.frames == expected_frames, cell
        stems.append(read_audio(file)[0])
    assert np.isfinite(stems).all()
    if target_rate is None:
        error = np.sum(stems, axis=0, dtype=np.float64) - mixture
        assert np.square(error).sum() <= 1e-6 * np.square(mixture, dtype=np.float64).sum(), cell


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("container", FORMATS)
def test_every_cell(container: str, rate: int, tmp_path: Path) -> None:
    separator = Separator(Divider(shares=(0.5, 0.25, 0.125, 0.125)), device="cpu")
    found = list(cells(container, rate))
    if not found:
        assert container == "mp3"
        assert rate in (4000, 96000, 192000)
    for cell in found:
        check(separator, cell, tmp_path)


def test_some_of_the_cells_with_the_bundled_model(tmp_path: Path) -> None:
    everything = [
        cell for container in FORMATS for rate in RATES for cell in cells(container, rate)
    ]
    drawn = np.random.default_rng(0).permutation(len(everything))[: len(everything) // 10]
    separator = Separator("default", device="cpu")
    for number, index in enumerate(drawn):
        check(separator, everything[index], tmp_path, (None, 8000, 44101)[number % 3])
