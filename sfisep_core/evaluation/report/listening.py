"""Players and spectrograms of excerpts, as data inside the page."""

import base64
import html
import io
from collections.abc import Mapping

import numpy as np
import soundfile

from sfisep_core.evaluation.study import Example, Samples

_DYNAMIC_RANGE_DB = 80.0
_MELS = 96
_WINDOW_SECONDS = 0.046
_FULL_SCALE = 32767 / 32768


def listening_table(example: Example) -> str:
    """Give the players of an example: a row for each source, a column for each system."""
    signals = [example.mixture, *example.references.values()]
    signals += [stem for stems in example.estimates.values() for stem in stems.values()]
    peak = max(float(np.abs(signal).max(initial=0.0)) for signal in signals)
    gain = min(1.0, _FULL_SCALE / peak) if peak > 0 else 1.0
    top = _highest_db(example)
    place = f"from {example.start:g} s, {example.sample_rate / 1000:g} kHz"
    turned = f", all turned down by {-20 * np.log10(gain):.1f} dB" if gain < 1 else ""
    columns: Mapping[str, Mapping[str, Samples]] = {
        "reference": example.references,
        **example.estimates,
    }

    def cell(name: str, signal: Samples) -> str:
        label = html.escape(name, quote=True)
        image = _image_uri(signal, example.sample_rate, top)
        return (
            f'<td><audio controls preload="none" aria-label="{label}" '
            f'src="{audio_uri(signal * np.float32(gain), example.sample_rate)}"></audio>'
            f'<img class="spectrogram" alt="spectrogram of {label}" src="{image}"></td>'
        )

    heads = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    rows = "".join(
        f"<tr><th>{html.escape(source)}</th>"
        + "".join(
            cell(f"{source}, {system}", stems[source]) if source in stems else "<td>-</td>"
            for system, stems in columns.items()
        )
        + "</tr>"
        for source in example.references
    )
    return (
        f'<div class="scroll"><table class="listening"><caption>{html.escape(example.track)}, '
        f"{place}{turned}. Spectrograms: mel scale up to half the sampling frequency, "
        f"{_DYNAMIC_RANGE_DB:g} dB.</caption>"
        f"<tr><td></td>{heads}</tr><tr><th>mixture</th>{cell('mixture', example.mixture)}"
        f'<td colspan="{len(columns) - 1}"></td></tr>{rows}</table></div>'
    )


def audio_uri(signal: Samples, sample_rate: int) -> str:
    """Encode a signal of at most full scale as 16-bit FLAC, which browsers play at any rate."""
    stream = io.BytesIO()
    soundfile.write(stream, signal.T, sample_rate, format="FLAC", subtype="PCM_16")
    return "data:audio/flac;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _mel_db(signal: Samples, sample_rate: int) -> Samples:
    import librosa

    n_fft = 2 ** round(np.log2(_WINDOW_SECONDS * sample_rate))
    mono = np.pad(signal.mean(axis=0), (0, max(0, n_fft - signal.shape[-1])))
    # As many bands as the lowest rate's bins can tell apart.
    mel = librosa.feature.melspectrogram(
        y=mono, sr=sample_rate, n_fft=n_fft, hop_length=n_fft // 2, n_mels=min(_MELS, n_fft // 8)
    )
    found: Samples = 10 * np.log10(np.maximum(mel, 1e-12)).astype(np.float32)
    return found


def _highest_db(example: Example) -> float:
    return float(_mel_db(example.mixture, example.sample_rate).max())


def _image_uri(signal: Samples, sample_rate: int, top: float) -> str:
    import matplotlib.image

    stream = io.BytesIO()
    matplotlib.image.imsave(
        stream,
        _mel_db(signal, sample_rate),
        vmin=top - _DYNAMIC_RANGE_DB,
        vmax=top,
        cmap="magma",
        origin="lower",
        format="png",
    )
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
