"""Scores on fixed validation excerpts while training."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.mixing import MixingConfig, draw_batch
from sfisep_core.errors import DatasetError
from sfisep_core.models.contract import SeparationModel

_SEED = 20220909
_TINY = 1e-10  # energy; only decides what silence scores


@dataclass(frozen=True)
class ValidationScores:
    """SI-SDR improvement over the mixture in dB, mean over excerpts, by rate and source."""

    by_rate: dict[int, dict[str, float]]

    @property
    def mean(self) -> float:
        """Mean over rates and sources."""
        values = [value for scores in self.by_rate.values() for value in scores.values()]
        return sum(values) / len(values)


def validation_mixing(config: MixingConfig) -> MixingConfig:
    """Give the mixing of validation excerpts: as recorded, nothing changed."""
    return replace(
        config,
        remix_probability=0.0,
        gain_db=0.0,
        flip_probability=0.0,
        speeds=(1.0,),
        lowpass_probability=0.0,
    )


@torch.no_grad()
def validate(
    model: SeparationModel,
    dataset: StemDataset,
    mixing: MixingConfig,
    *,
    excerpts: int,
    sample_rates: tuple[int, ...],
) -> ValidationScores:
    """Score a model on the same excerpts every time.

    A source counts only in excerpts where its energy is above -40 dB of the mixture's; one that
    counts in none has no score.

    Args:
        model: In evaluation mode.
        dataset: Validation split.
        mixing: From `validation_mixing`.
        excerpts: How many.
        sample_rates: Rates to score at, in Hz.

    Returns:
        The scores.

    Raises:
        DatasetError: No source counts in any excerpt.
    """
    device = next(model.parameters()).device
    by_rate = {}
    for sample_rate in sample_rates:
        sums, counts = torch.zeros(len(model.sources)), torch.zeros(len(model.sources))
        for example in range(excerpts):
            stems, _ = draw_batch(
                dataset,
                model.sources,
                replace(mixing, sample_rates=(sample_rate,)),
                seed=_SEED,
                step=0,
                batch_size=1,
                first_example=example,
            )
            stems = stems.to(device)
            mixture = stems.sum(dim=1)
            estimates = model(mixture, sample_rate=sample_rate)
            gain = _si_sdr(estimates, stems) - _si_sdr(mixture.unsqueeze(1).expand_as(stems), stems)
            active = stems.square().mean(dim=(0, 2, 3)) > 1e-4 * mixture.square().mean()
            sums += torch.where(active, gain, torch.zeros_like(gain)).cpu()
            counts += active.float().cpu()
        by_rate[sample_rate] = {
            source: round((total / count).item(), 3)
            for source, total, count in zip(model.sources, sums, counts, strict=True)
            if count > 0
        }
    if not any(by_rate.values()):
        msg = (
            f"data set {dataset.folder}: expected validation excerpts with music, found silence "
            f"in all {excerpts}: set validation_excerpts higher, or prepare other tracks"
        )
        raise DatasetError(msg)
    return ValidationScores(by_rate)


def _si_sdr(estimates: Tensor, references: Tensor) -> Tensor:
    energy = references.square().sum(dim=(0, 2, 3)) + _TINY
    scale = (estimates * references).sum(dim=(0, 2, 3)) / energy
    error = estimates - scale[:, None, None] * references
    return 10 * torch.log10(
        (scale.square() * energy + _TINY) / (error.square().sum(dim=(0, 2, 3)) + _TINY)
    )
