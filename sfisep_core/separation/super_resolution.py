"""Use any model as a separator at a low rate, with a network that restores the full band."""

from functools import lru_cache

from sfisep_core.errors import ConfigError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.super_resolved import Parts, SuperResolvedSeparator, parts_of
from sfisep_core.pretrained.identity import ModelIdentity, identify_model, load_identified


def super_resolve(
    model: SeparationModel,
    *,
    sample_rate: int,
    low_rate: int,
    network: str,
) -> SeparationModel:
    """Combine a model with a restorer.

    Args:
        model: A model in evaluation mode, on its device. Of a super-resolved model the separator is
            used, and by default its low rate and restorer.
        sample_rate: Sample rate of the mixture in Hz.
        low_rate: Rate in Hz at which to separate; 0: that of `network`, or without one the model's
            native rate.
        network: Name or file of a super-resolved model whose restorer is used; "": that of `model`.
            Where that has none either, the band above is shared out without a network.

    Returns:
        The super-resolved model, on the device of `model`; or the separator itself if `sample_rate`
        equals the low rate, so that there is nothing to restore.

    Raises:
        CheckpointError: `network` is missing or cannot be read.
        ConfigError: `network` is another kind of model, or has other sources.
    """
    own = parts_of(model)
    separator, restorer = own.separator, own.restorer
    if network:
        other = _network(identify_model(network))
        if other.separator.sources != separator.sources:
            msg = (
                f"super-resolution network {network}: expected one for "
                f"{', '.join(separator.sources)}, got one for {', '.join(other.separator.sources)}"
            )
            raise ConfigError(msg)
        assert other.restorer is not None
        restorer = other.restorer.to(next(separator.parameters()).device)
        low_rate = low_rate or other.low_rate
    low_rate = low_rate or own.low_rate or separator.native_rate
    if sample_rate == low_rate:
        return separator
    return SuperResolvedSeparator.around(separator, low_rate=low_rate, restorer=restorer)


@lru_cache(maxsize=1)
def _network(network: ModelIdentity) -> Parts:
    """Load a super-resolved model; the last one is cached."""
    model = load_identified(network)
    parts = parts_of(model)
    if parts.restorer is None:
        msg = (
            f"super-resolution network {network.name}: expected a super-resolved model, as "
            f"`sfisep train --config super-resolve` makes, got one of the family {model.family}"
        )
        raise ConfigError(msg)
    return parts
