"""The ideal ratio mask, computed from the references: an upper bound for masks."""

import numpy as np
import torch

from sfisep_core.audio.chunks import plan_chunks
from sfisep_core.evaluation.study import Samples

_WINDOW_SECONDS = 4096 / 44100
_OVERLAP = 4
_SEGMENT_SECONDS = 20  # spectrograms take several times the memory of their signals


def ideal_ratio_mask(references: Samples, mixture: Samples, *, sample_rate: int) -> Samples:
    """Separate a mixture by masks made from the references' power spectrograms.

    The mask of a source is its power divided by that of all sources, in each channel, frame and
    frequency; where all are silent, all get the same share. Frames are of about 93 ms (4096 samples
    at 44.1 kHz), with a Hann window and three quarters overlap.

    Args:
        references: Shape (source, channel, time).
        mixture: Shape (channel, time).
        sample_rate: Hz.

    Returns:
        Estimates, shape (source, channel, time); they sum to the mixture.
    """
    n_fft = _OVERLAP * max(1, round(_WINDOW_SECONDS * sample_rate / _OVERLAP))
    hop = n_fft // _OVERLAP
    window = torch.hann_window(n_fft)
    estimates = np.empty(references.shape, dtype=np.float32)
    chunks = plan_chunks(
        mixture.shape[-1],
        segment=_SEGMENT_SECONDS * sample_rate,
        context=n_fft,  # frames that contribute to the kept samples need it
        fade=0,
        alignment=hop,  # the frames of a segment are those of the whole signal
    )
    for chunk in chunks:
        part = np.s_[..., chunk.start : chunk.stop]
        signals = torch.from_numpy(np.concatenate([references[part], mixture[None][part]]))
        spectra = torch.stft(
            signals.flatten(0, 1),
            n_fft,
            hop,
            window=window,
            pad_mode="constant",
            return_complex=True,
        )
        spectra = spectra.reshape(*signals.shape[:2], *spectra.shape[1:])
        power = spectra[:-1].abs().square()
        total = power.sum(0)
        masks = torch.where(total > 0, power / total, 1 / len(power))
        masked = (masks * spectra[-1]).flatten(0, 1)
        stems = torch.istft(masked, n_fft, hop, window=window, length=signals.shape[-1])
        kept = slice(chunk.keep_start - chunk.start, chunk.keep_stop - chunk.start)
        estimates[..., chunk.keep_start : chunk.keep_stop] = stems.reshape(
            *references.shape[:2], -1
        )[..., kept].numpy()
    return estimates
