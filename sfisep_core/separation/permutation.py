"""Unnamed sources s1, s2, ...: estimates are assigned to references by comparison."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sfisep_core.errors import ConfigError

# Bounds of the fraction of an estimate's energy along a reference, equal to +-100 dB.
_LOWEST, _HIGHEST = 1e-10, 1 - 1e-10


def are_unnamed(sources: Sequence[str]) -> bool:
    """Tell whether sources are s1, s2, ... (two or more), whose order is arbitrary."""
    return len(sources) > 1 and set(sources) == {f"s{i + 1}" for i in range(len(sources))}


def check_sources_fit(sources: Sequence[str], stems: Sequence[str], *, where: str) -> None:
    """Check that a model's sources match the stems of a data set.

    Args:
        sources: Sources of the model.
        stems: Stems of the data set's tracks; unnamed ones must all be present.
        where: Start of the message.

    Raises:
        ConfigError: They do not match.
    """
    foreign = [source for source in sources if source not in stems]
    if foreign or (are_unnamed(stems) and len(sources) != len(stems)):
        msg = (
            f"{where}: expected stems of the data set ({', '.join(stems)}), got "
            f"{', '.join(foreign or sources)}: where the same stems have other names, prepare the "
            "data with `sfisep prepare-data --map STEM=NAME`"
        )
        raise ConfigError(msg)


def match_estimates(
    estimates: npt.NDArray[np.floating[Any]], references: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.int64]:
    """Find the order of estimates with the highest mean SI-SNR over the references.

    The SI-SNR is the scale-invariant SDR of signals without their means.

    Args:
        estimates: Shape (source, channel, time). Silent or non-finite estimates match nothing.
        references: Same shape.

    Returns:
        For each reference the index of its estimate, shape (source,).
    """
    from scipy.optimize import linear_sum_assignment  # slow to load, rarely needed

    with np.errstate(invalid="ignore", over="ignore"):
        e, s = _centred(estimates), _centred(references)
        products, energies = s @ e.T, np.outer((s * s).sum(axis=1), (e * e).sum(axis=1))
        usable = np.isfinite(products) & (energies > 0) & np.isfinite(energies)
        shares = np.where(usable, products**2 / np.where(usable, energies, 1.0), 0.0)
    shares = np.clip(shares, _LOWEST, _HIGHEST)

    _, order = linear_sum_assignment(np.log10(shares / (1 - shares)), maximize=True)
    return np.asarray(order, dtype=np.int64)


def _centred(signals: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    signals = signals.astype(np.float64)
    centred: npt.NDArray[np.float64] = signals - signals.mean(axis=-1, keepdims=True)
    return centred.reshape(len(signals), -1)
