"""What makes stems add up to the mixture: least-squares gains or mixture consistency."""

import numpy as np
import numpy.typing as npt
import torch

from sfisep_core.models.blocks.consistency import share_residual
from sfisep_core.models.contract import GainRule

# Directions of the (normalised) stems weaker than this share of the strongest, in energy, cannot
# be told from rounding in float32 stems and get no gain.
GRAM_CUTOFF = 1e-10


def least_squares_gains(
    stems: npt.NDArray[np.float32], mixture: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Fit one gain a stem and channel so that the gained stems add up to the mixture.

    The gains minimise |mixture - sum_s g_s stem_s|^2 over each whole channel, from the stems' Gram
    matrix in float64. Stems are normalised first, so that their scale does not matter; of equally
    good answers (silent or identical stems) the smallest is given, so a silent stem's gain is 0.

    Args:
        stems: Shape (source, channel, time).
        mixture: Shape (channel, time).

    Returns:
        Gains, shape (source, channel).

    Source: Samuel et al., ICASSP 2020; Saito et al. 2022, section V.
    """
    num_sources, channels, _ = stems.shape
    gains = np.zeros((num_sources, channels))
    for channel in range(channels):
        signals = stems[:, channel].astype(np.float64)
        norms = np.sqrt(np.square(signals).sum(axis=1))
        scale = np.where(norms > 0, norms, 1.0)
        signals /= scale[:, None]
        gram, target = signals @ signals.T, signals @ mixture[channel].astype(np.float64)
        gains[:, channel] = np.linalg.pinv(gram, rcond=GRAM_CUTOFF, hermitian=True) @ target / scale
    return gains


def apply_gain_rule(
    rule: GainRule,
    stems: npt.NDArray[np.float32],
    mixture: npt.NDArray[np.float32],
    *,
    sample_rate: int,
) -> npt.NDArray[np.float32]:
    """Make stems add up to the mixture as their model's rule says.

    Args:
        rule: "least-squares": as well as one gain a stem and channel can. "mixture-consistent":
            exactly, by sharing the residual out.
        stems: Shape (source, channel, time).
        mixture: Shape (channel, time).
        sample_rate: Hz.

    Returns:
        Stems, same shape, float32.
    """
    if rule == "least-squares":
        gains = least_squares_gains(stems, mixture)
        return (stems * gains[:, :, None]).astype(np.float32)
    shared = share_residual(
        torch.from_numpy(stems), torch.from_numpy(mixture), sample_rate=sample_rate
    )
    return shared.numpy()
