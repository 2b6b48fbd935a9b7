"""Any model as a separator at a low rate, under a network that restores the full band."""

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
    shares_only: bool,
) -> SeparationModel:
    """Put a restorer on a model.

    Args:
        model: In evaluation mode, on its device; of a super-resolved one, its separator is taken,
            and its low rate and restorer where nothing else is named.
        sample_rate: Of what is to be separated, in Hz.
        low_rate: Hz, where it is to separate; 0: that of `network`, or without one the model's
            native rate.
        network: Name or file of a super-resolved model, whose restorer is taken; "": none.
        shares_only: Restore without a network, at the same low rate.

    Returns:
        The super-resolved model, on the device of `model`; where there is nothing to restore, since
        `sample_rate` is the low rate, the separator itself.

    Raises:
        CheckpointError: `network` cannot be found or read.
        ConfigError: `network` is another kind of model, or one for other sources.
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
    return SuperResolvedSeparator.around(
        separator, low_rate=low_rate, restorer=None if shares_only else restorer
    )


@lru_cache(maxsize=1)
def _network(network: ModelIdentity) -> Parts:
    """Load a super-resolved model; the last one is kept."""
    model = load_identified(network)
    parts = parts_of(model)
    if parts.restorer is None:
        msg = (
            f"super-resolution network {network.name}: expected a super-resolved model, as "
            f"`sfisep train --config super-resolve` makes, got one of the family {model.family}"
        )
        raise ConfigError(msg)
    return parts
