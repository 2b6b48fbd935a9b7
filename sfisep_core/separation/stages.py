"""Run a model on a whole signal stage by stage, each stage with windows of its own."""

from collections.abc import Sequence

import numpy as np

from sfisep_core.audio.stores import Samples, Signal, Store, Stores, block_ranges, walk
from sfisep_core.foundation.memory import return_freed_memory
from sfisep_core.models.contract import SeparationModel, rest_of
from sfisep_core.separation.gains import apply_gain_rule
from sfisep_core.separation.overlap_add import separate_in_windows
from sfisep_core.separation.settings import Progress, SeparationSettings


def separate_in_stages(
    model: SeparationModel,
    mixture: Signal,
    *,
    sample_rate: int,
    stores: Stores,
    settings: SeparationSettings,
    progress: Progress | None,
) -> Store:
    """Separate a signal of any length at its own rate, with memory that does not depend on it.

    A model without stages is run by `separate_in_windows`. Stages differ in the length of their
    windows and in the context that they need; windows for all of them at once would need the sum of
    the contexts.

    Args:
        model: A model in evaluation mode, on its device.
        mixture: Shape (channel, time).
        sample_rate: Hz.
        stores: Creates the stores of stems and residuals.
        settings: How the signal is cut and computed; their method is ignored.
        progress: Called with seconds done, as a mean over the stages, and total seconds.

    Returns:
        Stems in the model's order, shape (source, channel, time).

    Raises:
        AudioFileError: There is not enough disk space for the stems.
        ConfigError: The model cannot work at this rate.
        DeviceError: Not enough memory, even for short segments.
    """
    stages = model.in_stages()
    if not stages:
        return separate_in_windows(
            model,
            mixture,
            sample_rate=sample_rate,
            stores=stores,
            settings=settings,
            progress=progress,
        )
    result = stores.make((len(model.sources), *mixture.leading), mixture.frames)
    for start, stop in block_ranges(mixture):
        result.append(np.zeros((*result.leading, stop - start), dtype=np.float32))
    residual = _copy(mixture, stores)
    rest = rest_of(stages[-1].keep)
    for number, stage in enumerate(stages):
        return_freed_memory()
        estimates = separate_in_windows(
            stage.model,
            residual,
            sample_rate=sample_rate,
            stores=stores,
            settings=settings,
            progress=_share_of(progress, number, len(stages)),
        )
        rows = [stage.model.sources.index(name) for name in stage.keep]
        kept = _Sources(result, [model.sources.index(name) for name in stage.keep])
        for start, stop in block_ranges(mixture):
            kept.write(start, estimates.read(start, stop)[rows])
        stores.drop(estimates)
        if stage is stages[-1] and rest is None:
            apply_gain_rule("mixture-consistent", kept, residual, sample_rate=sample_rate)
            break
        for start, stop in block_ranges(mixture):
            left = residual.read(start, stop) - kept.read(start, stop).sum(axis=0)
            residual.write(start, left)
    if rest is not None:
        stem = _Sources(result, [model.sources.index(rest)])
        for start, stop in block_ranges(mixture):
            stem.write(start, stem.read(start, stop) + residual.read(start, stop))
    stores.drop(residual)
    return result


def stored_sources(model: SeparationModel) -> tuple[int, ...]:
    """Return the numbers of sources of all stores that `separate_in_stages` needs at once."""
    stages = model.in_stages()
    if not stages:
        return (len(model.sources),)
    return len(model.sources), max(len(stage.model.sources) for stage in stages), 1


class _Sources:
    """Some sources of a store, as a signal of their own.

    Args:
        store: Shape (source, channel, time).
        places: Positions of the sources.
    """

    def __init__(self, store: Store, places: Sequence[int]) -> None:
        self._store, self._places = store, list(places)

    @property
    def leading(self) -> tuple[int, ...]:
        return (len(self._places), *self._store.leading[1:])

    @property
    def frames(self) -> int:
        return self._store.frames

    def read(self, start: int, stop: int) -> Samples:
        return self._store.read(start, stop)[self._places]

    def write(self, start: int, block: Samples) -> None:
        stems = self._store.read(start, start + block.shape[-1]).copy()
        stems[self._places] = block
        self._store.write(start, stems)


def _copy(signal: Signal, stores: Stores) -> Store:
    copy = stores.make(signal.leading, signal.frames)
    for block in walk(signal):
        copy.append(block)
    return copy


def _share_of(progress: Progress | None, number: int, count: int) -> Progress | None:
    """Report the progress of stage `number` of `count` as a part of the whole."""
    if progress is None:
        return None
    return lambda done, total: progress((number * total + done) / count, total)
