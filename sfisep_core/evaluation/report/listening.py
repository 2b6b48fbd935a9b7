"""Players and spectrograms of excerpts, embedded in the page."""

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soundfile

from sfisep_core.audio.mel import mel_power, mel_window
from sfisep_core.evaluation.study import Example, Samples

_DYNAMIC_RANGE_DB = 80.0
_PCM_SCALE = 32768
_SILENCE = 1e-12
_LARGEST = 32767 / _PCM_SCALE


@dataclass(frozen=True)
class Player:
    """A cell of the table: one signal.

    Attributes:
        label: Source and system.
        sound: Data URI of the samples.
        image: Data URI of the spectrogram.
    """

    label: str
    sound: str
    image: str


@dataclass(frozen=True)
class Row:
    """The signals of one source: one for the mixture, one per column for sources."""

    source: str
    players: list[Player | None]


@dataclass(frozen=True)
class Excerpt:
    """Data of an example on the page.

    Attributes:
        track: Name of the track.
        start: Start in the track, in seconds.
        sample_rate: Hz.
        attenuation_db: Attenuation of all signals in dB, 0 or more.
        dynamic_range_db: Dynamic range of the spectrograms.
        columns: Names of the systems, the reference first.
        rows: The mixture, then the sources.
    """

    track: str
    start: float
    sample_rate: int
    attenuation_db: float
    dynamic_range_db: float
    columns: list[str]
    rows: list[Row]


def excerpt(example: Example) -> Excerpt:
    """Encode an example for the page: one row per source, one column per system."""
    gain = common_gain(example)
    loudest = float(mel_db(example.mixture, example.sample_rate).max())
    columns = {"reference": example.references, **example.estimates}

    def player(label: str, signal: Samples) -> Player:
        return Player(
            label,
            audio_uri(signal * np.float32(gain), example.sample_rate),
            _image_uri(mel_db(signal, example.sample_rate), loudest),
        )

    rows = [Row("mixture", [player("mixture", example.mixture)])]
    for source in example.references:
        rows.append(
            Row(
                source,
                [
                    player(f"{source}, {system}", stems[source]) if source in stems else None
                    for system, stems in columns.items()
                ],
            )
        )
    return Excerpt(
        track=example.track,
        start=example.start,
        sample_rate=example.sample_rate,
        attenuation_db=-20 * math.log10(gain),
        dynamic_range_db=_DYNAMIC_RANGE_DB,
        columns=list(columns),
        rows=rows,
    )


def common_gain(example: Example) -> float:
    """Compute the factor, at most 1, with which no signal of an example exceeds full scale."""
    signals = [example.mixture, *example.references.values()]
    signals += [stem for stems in example.estimates.values() for stem in stems.values()]
    peak = max(float(np.abs(signal).max(initial=0.0)) for signal in signals)
    return min(1.0, _LARGEST / peak) if peak > 0 else 1.0


def audio_uri(signal: Samples, sample_rate: int) -> str:
    """Encode a signal as 16-bit FLAC, which browsers play at any rate.

    Args:
        signal: Shape (channel, time), within -1 and 1.
        sample_rate: Hz.

    Returns:
        A data URI. Its samples are those of the signal, rounded to multiples of 2^-15.
    """
    pcm = np.clip(np.rint(signal.T * np.float32(_PCM_SCALE)), -_PCM_SCALE, _PCM_SCALE - 1)
    stream = io.BytesIO()
    soundfile.write(stream, pcm.astype(np.int16), sample_rate, format="FLAC", subtype="PCM_16")
    return _data_uri("audio/flac", stream)


def mel_db(signal: Samples, sample_rate: int) -> npt.NDArray[np.float32]:
    """Compute a mel spectrogram of the mean of all channels, in dB.

    Args:
        signal: Shape (channel, time).
        sample_rate: Hz; the bands reach up to half of it.

    Returns:
        Shape (band, frame), the lowest band first, at least -120 dB.
    """
    # Windows centred on the samples, the first and the last included.
    half = mel_window(sample_rate) // 2
    mono = signal.mean(axis=0)
    mono = np.pad(mono, (half, half + max(0, 2 * half - mono.size)))
    mel = mel_power(mono, sample_rate, hop=half)
    decibels: npt.NDArray[np.float32] = 10 * np.log10(np.maximum(mel, _SILENCE)).astype(np.float32)
    return decibels


def _image_uri(levels_db: npt.NDArray[np.float32], loudest: float) -> str:
    import matplotlib.image

    stream = io.BytesIO()
    matplotlib.image.imsave(
        stream,
        levels_db,
        vmin=loudest - _DYNAMIC_RANGE_DB,
        vmax=loudest,
        cmap="magma",
        origin="lower",
        format="png",
    )
    return _data_uri("image/png", stream)


def _data_uri(kind: str, stream: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
