"""Any model as a separator at a low rate, under a network that restores the full band."""

from functools import lru_cache

from sfisep_core.errors import ConfigError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.super_resolved import SuperResolvedSeparator
from sfisep_core.pretrained.resolve import resolve_model


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
    restorer = None
    if isinstance(model, SuperResolvedSeparator):
        low_rate = low_rate or (0 if network else model.config.low_rate)
        restorer, model = model.restorer, model.separator
    if network:
        found = _load(network)
        if found.sources != model.sources:
            msg = (
                f"super-resolution network {network}: expected one for {', '.join(model.sources)}, "
                f"got one for {', '.join(found.sources)}"
            )
            raise ConfigError(msg)
        restorer = found.restorer.to(next(model.parameters()).device)
        low_rate = low_rate or found.config.low_rate
    low_rate = low_rate or model.native_rate
    if sample_rate == low_rate:
        return model
    return SuperResolvedSeparator.around(
        model, low_rate=low_rate, restorer=None if shares_only else restorer
    )


@lru_cache(maxsize=1)
def _load(name: str) -> SuperResolvedSeparator:
    model = resolve_model(name)
    if not isinstance(model, SuperResolvedSeparator):
        msg = (
            f"super-resolution network {name}: expected a super-resolved model, as `sfisep train "
            f"--config super-resolve` makes, got one of the family {model.family}"
        )
        raise ConfigError(msg)
    return model
