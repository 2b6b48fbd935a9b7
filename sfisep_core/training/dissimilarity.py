"""The loss of DeepConvSep: fit each source, and stay dissimilar from the other sources.

Source: Chandna, Miron, Janer and Gomez, "Monoaural audio source separation using deep convolutional
neural networks", LVA/ICA 2017, and the program of its authors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sfisep_core.config_values import CheckedConfig, ShareBelowOne
from sfisep_core.training.spectral_losses import spectra
from sfisep_core.training.waveform_losses import inverse_level, mixture_of


@dataclass(frozen=True)
class DissimilarityConfig(CheckedConfig):
    """Settings of the loss "dissimilarity"; the defaults are those of the authors' program.

    Attributes:
        alpha: Weight of the squared distances from sources other than "other".
        beta: Weight of the squared distance from the reference of "other", for all sources but
            "vocals".
        gamma: The same for "vocals".
        against: What estimates should differ from: the "references" of the other sources, as in the
            authors' program, or their "estimates", as in the paper, where `alpha` applies to all
            pairs, also those with "other".
        domain: What distances compare: spectra's "magnitude", or the samples ("waveform") as the
            program for Keras does.

    Raises:
        ConfigError: A weight is out of its range.
    """

    section = "training setting dissimilarity."

    alpha: ShareBelowOne = 0.001
    beta: ShareBelowOne = 0.01
    gamma: ShareBelowOne = 0.03
    against: Literal["references", "estimates"] = "references"
    domain: Literal["magnitude", "waveform"] = "magnitude"


def dissimilarity_loss(
    config: DissimilarityConfig,
    *,
    estimates: Tensor,
    references: Tensor,
    sample_rate: int,
    window_seconds: float,
    sources: Sequence[str],
) -> Tensor:
    """Compute squared errors minus weighted squared distances from the other sources.

    With d(a, b) = mean |a - b|^2 / mean |x|^2, over channels and either samples or the bins and
    frames of magnitudes, references s and o that of "other", the estimate e of a source costs

    d(e, s) - beta d(e, o) - alpha sum d(e, s')

    with gamma instead of beta for "vocals". The sum is over the references s' of the sources that
    are neither this one nor "other". The estimate of "other" is not compared with its reference and
    costs nothing: it is what the others leave of the mixture. So the loss suits models whose stems
    add up to the mixture (masks that sum to 1); other models do not learn "other". If no source is
    called "other" all are fitted.

    Against estimates, the sum is alpha / 2 sum d(e, e') over all sources except this one. It
    includes "other", which then has a cost of its own: each source of a pair gets half of their
    distance. A source that is left out of a step's loss because it is silent loses its half, but
    the others are still compared with its estimate.

    The sum over the sources is the published total of an example, divided by the energy of the
    mixture: the loss does not depend on level, and is 0 for an example whose mixture is silent. The
    published programs take the absolute value of the total. Here it is omitted: the total becomes
    negative when all sources fit well, and minimising its absolute value would make the fit worse
    again.

    Args:
        config: Weights and form.
        estimates: Shape (batch, source, channel, time).
        references: Same shape.
        sample_rate: Hz.
        window_seconds: Length of the window of magnitudes, above 0; frames advance by a quarter.
        sources: Names of the sources, in their order.

    Returns:
        Shape (batch, source); may be negative.

    Source: Chandna et al. 2017; the normalisation by the mixture and the attribution to sources are
        additions.
    """
    e, s, x = estimates, references, mixture_of(references)
    if config.domain == "magnitude":
        e, s, x = (
            spectra(signals, seconds=window_seconds, sample_rate=sample_rate).abs()
            for signals in (e, s, x)
        )
    totals = []
    for i, source in enumerate(sources):
        total = e.new_zeros(len(e))
        for j, other in enumerate(sources):
            weight = _weight(config, source, other)
            if weight != 0:
                total = total + weight * _distance(e[:, i], s[:, j])
            if config.against == "estimates" and i != j:
                total = total - config.alpha / 2 * _distance(e[:, i], e[:, j])
        totals.append(total)
    level = x.square().flatten(1).mean(dim=1, keepdim=True).sqrt()
    return torch.stack(totals, dim=1) * inverse_level(level).square()


def _weight(config: DissimilarityConfig, source: str, other: str) -> float:
    """Return the weight of the distance between a source's estimate and a reference."""
    if source == "other":
        return 0.0
    if source == other:
        return 1.0
    if other == "other":
        return -config.gamma if source == "vocals" else -config.beta
    return -config.alpha if config.against == "references" else 0.0


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Compute the mean squared difference, shape (batch,)."""
    return (a - b).square().flatten(1).mean(dim=1)
