"""Make stems add up to the mixture: least-squares gains or mixture consistency.

Both work in blocks, so that no further memory for whole signals is needed.
"""

import numpy as np
import numpy.typing as npt
import torch

from sfisep_core.audio.stores import BLOCK_FRAMES, ChangeableSignal, Signal, block_ranges
from sfisep_core.models.blocks.consistency import ENERGY_SECONDS, share_residual
from sfisep_core.models.contract import GainRule

# Eigenvalues of the (normalised) stems' Gram matrix below this fraction of the largest cannot be
# distinguished from float32 rounding and are treated as 0.
GRAM_CUTOFF = 1e-10


def least_squares_gains(stems: Signal, mixture: Signal) -> npt.NDArray[np.float64]:
    """Fit one gain per stem and channel so that the scaled stems add up to the mixture.

    The gains minimise |mixture - sum_s g_s stem_s|^2 over each whole channel, from the stems' Gram
    matrix in float64. Stems are normalised first, so that their scale does not matter; if the
    solution is not unique (silent or identical stems) the minimum-norm one is returned, so a silent
    stem's gain is 0.

    Args:
        stems: Shape (source, channel, time).
        mixture: Shape (channel, time).

    Returns:
        Gains, shape (source, channel).

    Source: Samuel et al., ICASSP 2020; Saito et al. 2022, section V.
    """
    num_sources, channels = stems.leading
    gram = np.zeros((channels, num_sources, num_sources))
    target = np.zeros((channels, num_sources))
    for start, stop in block_ranges(stems, BLOCK_FRAMES):
        signals = stems.read(start, stop).transpose(1, 0, 2).astype(np.float64)
        gram += signals @ signals.transpose(0, 2, 1)
        target += (signals @ mixture.read(start, stop)[..., None])[..., 0]
    norms = np.sqrt(np.diagonal(gram, axis1=1, axis2=2))  # (channel, source)
    scale = np.where(norms > 0, norms, 1.0)
    normal = np.linalg.pinv(
        gram / (scale[:, :, None] * scale[:, None, :]), rcond=GRAM_CUTOFF, hermitian=True
    )
    gains = (normal @ (target / scale)[..., None])[..., 0] / scale
    return np.ascontiguousarray(gains.T)


def apply_gain_rule(
    rule: GainRule, stems: ChangeableSignal, mixture: Signal, *, sample_rate: int
) -> None:
    """Make stems add up to the mixture as their model's rule says.

    Args:
        rule: "least-squares": approximately, with one gain per stem and channel.
            "mixture-consistent": exactly, by distributing the residual. "none": not at all.
        stems: Shape (source, channel, time); changed in place.
        mixture: Shape (channel, time).
        sample_rate: Hz.
    """
    if rule == "none":
        return
    if rule == "least-squares":
        gains = least_squares_gains(stems, mixture)[:, :, None]
        for start, stop in block_ranges(stems, BLOCK_FRAMES):
            stems.write(start, (stems.read(start, stop) * gains).astype(np.float32))
        return
    context = round(ENERGY_SECONDS * sample_rate)
    before = stems.read(0, 0)  # the unmodified end of the previous block
    for start, stop in block_ranges(stems, BLOCK_FRAMES):
        after = min(stop + context, stems.frames)
        block = np.concatenate([before, stems.read(start, after)], axis=-1)
        first = before.shape[-1]
        before = stems.read(max(start, stop - context), stop).copy()
        with torch.no_grad():
            shared = share_residual(
                torch.from_numpy(block),
                torch.from_numpy(mixture.read(start - first, after)),
                sample_rate=sample_rate,
            )
        stems.write(start, shared.numpy()[..., first : first + stop - start])
