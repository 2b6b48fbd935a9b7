"""Players and spectrograms of excerpts, as data inside the page."""

import base64
import html
import io
import math

import numpy as np
import numpy.typing as npt
import soundfile

from sfisep_core.evaluation.report.markup import MISSING, kilohertz
from sfisep_core.evaluation.study import Example, Samples

_DYNAMIC_RANGE_DB = 80.0
_MAX_BANDS = 96
_WINDOW_SECONDS = 0.046
_PCM_SCALE = 32768
_SILENCE = 1e-12
_LARGEST = 32767 / _PCM_SCALE


def listening_table(example: Example) -> str:
    """Give the players of an example: a row for each source, a column for each system.

    Args:
        example: The excerpt, and what was made of it.

    Returns:
        HTML, headed by what it is of.
    """
    gain = common_gain(example)
    loudest = float(mel_db(example.mixture, example.sample_rate).max())
    columns = {"reference": example.references, **example.estimates}
    place = f"{example.track}, from {example.start:g} s, at {kilohertz(example.sample_rate)} kHz"
    turned_down = f"Against clipping, all turned down by {-20 * math.log10(gain):.1f} dB. "

    def cell(source: str, system: str, signal: Samples) -> str:
        label = html.escape(", ".join(part for part in (source, system) if part))
        sound = audio_uri(signal * np.float32(gain), example.sample_rate)
        image = _image_uri(mel_db(signal, example.sample_rate), loudest)
        return (
            f'<td><audio controls preload="none" aria-label="{label}" src="{sound}"></audio>'
            f'<img class="spectrogram" alt="Spectrogram: {label}" src="{image}"></td>'
        )

    heads = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    rows = [
        f'<th scope="row">{html.escape(source)}</th>'
        + "".join(
            cell(source, system, stems[source]) if source in stems else f"<td>{MISSING}</td>"
            for system, stems in columns.items()
        )
        for source in example.references
    ]
    rest = f'<td colspan="{len(example.estimates)}"></td>' if example.estimates else ""
    rows.insert(0, f'<th scope="row">mixture</th>{cell("mixture", "", example.mixture)}{rest}')
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f"<h3>{html.escape(place)}</h3>\n<p><small>{turned_down if gain < 1 else ''}"
        "Spectrograms, all alike: upwards from 0 to "
        f"{kilohertz(example.sample_rate / 2)} kHz on the mel scale, the brighter the louder, over "
        f"{_DYNAMIC_RANGE_DB:g} dB below the loudest of the mixture.</small></p>\n"
        '<div class="scroll"><table class="listening">'
        f'<thead><tr><th scope="col">source</th>{heads}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>\n"
    )


def common_gain(example: Example) -> float:
    """Give the factor, at most 1, with which no signal of an example exceeds full scale."""
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
    import librosa

    n_fft = 2 ** round(math.log2(_WINDOW_SECONDS * sample_rate))
    mono = signal.mean(axis=0)
    mel = librosa.feature.melspectrogram(
        y=np.pad(mono, (0, max(0, n_fft - mono.size))),
        sr=sample_rate,
        n_fft=n_fft,
        hop_length=n_fft // 2,
        n_mels=min(_MAX_BANDS, n_fft // 8),  # as many as low rates can tell apart
    )
    found: npt.NDArray[np.float32] = 10 * np.log10(np.maximum(mel, _SILENCE)).astype(np.float32)
    return found


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
