"""Training losses, one value per example and source, and their weights.

A step's loss is sum(losses * weights) / sum(weights), with both sums over all examples of an
update. Neither function computes a mean itself: if processes or micro-batches have different
numbers of silent sources, the mean of means is not the overall mean.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from sfisep_core.audio.resample import limit_band, sinc_resample
from sfisep_core.errors import ConfigError
from sfisep_core.separation.permutation import are_unnamed
from sfisep_core.training.dissimilarity import DissimilarityConfig, dissimilarity_loss
from sfisep_core.training.permutation_invariant import MAX_SOURCES, pit_si_snr_loss
from sfisep_core.training.spectral_losses import complex_mse_loss, magnitude_l1_loss, stft_loss
from sfisep_core.training.waveform_losses import is_silent, l1_loss, si_sdr_loss, snr_loss

LossName = Literal[
    "snr",
    "si-sdr",
    "pit-si-snr",
    "l1",
    "stft",
    "complex-mse",
    "magnitude-l1",
    "dissimilarity",
]


def check_losses(losses: Mapping[LossName, float], sources: Sequence[str]) -> None:
    """Check that losses for named and for unnamed sources are not confused.

    Args:
        losses: Weights by name of the loss.
        sources: Names of the sources.

    Raises:
        ConfigError: "pit-si-snr" is combined with other losses, or used for named sources or more
            than `MAX_SOURCES`; or another loss is used for sources s1, s2, ...
    """
    if not are_unnamed(sources):
        if "pit-si-snr" in losses:
            msg = (
                "training setting loss.pit-si-snr: expected sources without names, as in "
                f"model.sources = ['s1', 's2'], got {', '.join(sources)}: choose another loss"
            )
            raise ConfigError(msg)
    elif set(losses) != {"pit-si-snr"} or len(sources) > MAX_SOURCES:
        msg = (
            f"training setting loss: for {', '.join(sources)}, which are no names, expected "
            f"{{pit-si-snr = 1}} alone and at most {MAX_SOURCES} sources, got {', '.join(losses)}"
        )
        raise ConfigError(msg)


class Measure(Protocol):
    """`source_losses` with its settings."""

    def __call__(self, *, estimates: Tensor, references: Tensor, sample_rate: int) -> Tensor:
        """Compare estimates, shape (batch, source, channel, time); return (batch, source)."""


def staged_losses(
    measure: Measure,
    *,
    estimates: Tensor,
    references: Tensor,
    sample_rate: int,
    stage_rates: Sequence[int],
    above_rate: int = 0,
) -> Tensor:
    """Add the mean loss of intermediate estimates to the loss of final estimates.

    Every intermediate estimate and its reference are resampled to the rate of its stage before they
    are compared: the band above half of it is left to later stages. Further references belong to
    sources that the model does not estimate: they are only part of the mixture, to which losses are
    relative.

    Args:
        measure: Computes the losses of one stage.
        estimates: Shape (batch, stage * source, channel, time), the final ones last.
        references: Shape (batch, source or more, channel, time).
        sample_rate: Hz.
        stage_rates: Hz, one for every stage but the last.
        above_rate: Hz, below `sample_rate`: compare final estimates only in the band above half of
            this rate; 0: in the whole band.

    Returns:
        Shape (batch, source); smaller is better.

    Source: Rixen and Renz, "SFSRNet: Super-resolution for single-channel audio source separation",
    AAAI 2022.
    """
    count = estimates.shape[1] // (len(stage_rates) + 1)
    *stages, last = torch.split(estimates, count, dim=1)

    def compare(found: Tensor, wanted: Tensor, rate: int) -> Tensor:
        found = torch.cat([found, wanted[:, count:].to(found.dtype)], dim=1)
        return measure(estimates=found, references=wanted, sample_rate=rate)[:, :count]

    final = references
    if above_rate:
        last, final = (
            signals - limit_band(signals, sample_rate=sample_rate, limit=above_rate)
            for signals in (last, references)
        )
    total = compare(last, final, sample_rate)
    for rate, stage in zip(stage_rates, stages, strict=True):
        lower, target = (
            sinc_resample(signals, orig_rate=sample_rate, target_rate=rate)
            for signals in (stage, references)
        )
        total = total + compare(lower, target, rate) / len(stages)
    return total


def source_losses(
    losses: Mapping[LossName, float],
    *,
    estimates: Tensor,
    references: Tensor,
    sample_rate: int,
    sources: Sequence[str],
    floor_db: float,
    window_seconds: float,
    dissimilarity: DissimilarityConfig,
) -> Tensor:
    """Compute the weighted sum of losses for every source.

    It is computed in float32 at least, and without autocast. All values and gradients are finite,
    also for silence, as long as no sample exceeds 1e10.

    Args:
        losses: Weights by name of the loss.
        estimates: Shape (batch, source, channel, time).
        references: Same shape.
        sample_rate: Hz.
        sources: Names of the sources, for "dissimilarity".
        floor_db: Floor relative to the mixture's energy, in dB (negative), of "snr", of silent
            sources in "si-sdr" and of the spectral convergence in "stft".
        window_seconds: Window of the spectra in "complex-mse", "magnitude-l1" and
            "dissimilarity", above 0.
        dissimilarity: Settings of "dissimilarity".

    Returns:
        Shape (batch, source); smaller is better.
    """
    with torch.autocast(estimates.device.type, enabled=False):
        kind = torch.promote_types(references.dtype, torch.float32)
        e, s = estimates.to(kind), references.to(kind)
        total = torch.zeros(s.shape[:2], dtype=kind, device=s.device)
        for name, weight in losses.items():
            match name:
                case "snr":
                    value = snr_loss(estimates=e, references=s, floor_db=floor_db)
                case "si-sdr":
                    value = si_sdr_loss(estimates=e, references=s, floor_db=floor_db)
                case "pit-si-snr":
                    value = pit_si_snr_loss(estimates=e, references=s)
                case "l1":
                    value = l1_loss(estimates=e, references=s)
                case "stft":
                    value = stft_loss(
                        estimates=e, references=s, sample_rate=sample_rate, floor_db=floor_db
                    )
                case "complex-mse":
                    value = complex_mse_loss(
                        estimates=e,
                        references=s,
                        sample_rate=sample_rate,
                        window_seconds=window_seconds,
                    )
                case "magnitude-l1":
                    value = magnitude_l1_loss(
                        estimates=e,
                        references=s,
                        sample_rate=sample_rate,
                        window_seconds=window_seconds,
                    )
                case "dissimilarity":
                    value = dissimilarity_loss(
                        dissimilarity,
                        estimates=e,
                        references=s,
                        sample_rate=sample_rate,
                        window_seconds=window_seconds,
                        sources=sources,
                    )
            total = total + weight * value
        return total


def source_weights(references: Tensor, *, mask_silent: bool) -> Tensor:
    """Compute which sources count in the loss, from the references only.

    Args:
        references: Shape (batch, source, channel, time).
        mask_silent: Whether silent ones (below -60 dB of the mixture's energy) are left out.

    Returns:
        1.0 or 0.0, shape (batch, source).
    """
    references = references.to(torch.promote_types(references.dtype, torch.float32))
    if not mask_silent:
        return references.new_ones(references.shape[:2])
    return (~is_silent(references)).to(references.dtype)
