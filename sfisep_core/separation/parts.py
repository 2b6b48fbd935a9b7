"""Run a model on a whole signal part by part, each part with windows of its own."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from sfisep_core.audio.stores import (
    ChangeableSignal,
    Samples,
    Signal,
    Store,
    Stores,
    block_ranges,
    walk,
)
from sfisep_core.foundation.memory import return_freed_memory
from sfisep_core.models.contract import SeparationModel, rest_of
from sfisep_core.separation.averaging import Run, mean_of_runs, part_of
from sfisep_core.separation.gains import apply_gain_rule
from sfisep_core.separation.overlap_add import separate_in_windows
from sfisep_core.separation.settings import Progress, SeparationSettings


def separate_in_parts(
    model: SeparationModel,
    mixture: Signal,
    *,
    sample_rate: int,
    stores: Stores,
    settings: SeparationSettings,
    progress: Progress | None,
) -> Store:
    """Separate a signal of any length at its own rate, with memory that does not depend on it.

    A model that is not made of others is run by `separate_in_windows`. The stages of a cascade and
    the members of an ensemble differ in the length of their windows and in the context that they
    need; windows for all of them at once would need the longest of both.

    Args:
        model: A model in evaluation mode, on its device.
        mixture: Shape (channel, time).
        sample_rate: Hz.
        stores: Creates the stores of stems and residuals.
        settings: How the signal is cut and computed; their method is ignored.
        progress: Called with seconds done, as a mean over the parts, and total seconds.

    Returns:
        Stems in the model's order, shape (source, channel, time).

    Raises:
        AudioFileError: There is not enough disk space for the stems.
        ConfigError: The model cannot work at this rate.
        DeviceError: Not enough memory, even for short segments.
    """
    return _Separation(sample_rate, stores, settings).separate(model, mixture, progress)


def stored_sources(model: SeparationModel) -> tuple[int, ...]:
    """Return the numbers of sources of all stores that `separate_in_parts` needs at once."""
    stages = [stage.model for stage in model.in_stages()]
    members = [member.model for member in model.in_members()]
    if not stages and not members:
        return (len(model.sources),)
    largest = max(map(stored_sources, stages + members), key=sum)
    return (len(model.sources), *largest, *((1,) if stages else ()))


class _Separation:
    """What all parts have in common; see `separate_in_parts`."""

    def __init__(self, sample_rate: int, stores: Stores, settings: SeparationSettings) -> None:
        self._sample_rate, self._stores, self._settings = sample_rate, stores, settings

    def separate(self, model: SeparationModel, mixture: Signal, progress: Progress | None) -> Store:
        """Separate a signal; see `separate_in_parts`."""
        return_freed_memory()
        if model.in_stages():
            return self._one_after_the_other(model, mixture, progress)
        if model.in_members():
            return self._mean(model, mixture, progress)
        return separate_in_windows(
            model,
            mixture,
            sample_rate=self._sample_rate,
            stores=self._stores,
            settings=self._settings,
            progress=progress,
        )

    def _one_after_the_other(
        self, model: SeparationModel, mixture: Signal, progress: Progress | None
    ) -> Store:
        """Run the stages of a cascade, each on what those before it leave."""
        stages = model.in_stages()
        stems = self._stores.make((len(model.sources), *mixture.leading), mixture.frames)
        residual = self._stores.make(mixture.leading, mixture.frames)
        for block in walk(mixture):
            residual.append(block)
        seconds = mixture.frames / self._sample_rate
        for number, stage in enumerate(stages):
            told = part_of(progress, number, len(stages), seconds)
            estimates = self.separate(stage.model, residual, told)
            own = _Sources(estimates, stage.model.sources, stage.keep)
            kept = _Sources(stems, model.sources, stage.keep)
            is_last = stage is stages[-1]
            for start, stop in block_ranges(mixture):
                heard, block = residual.read(start, stop), own.read(start, stop)
                if is_last:
                    block = _with_rest(block, heard, stage.keep)
                else:
                    residual.write(start, heard - block.sum(axis=0))
                if number == 0:
                    kept.append(block)
                else:
                    kept.write(start, block)
            self._stores.drop(estimates)
            if is_last:
                self._share_residual(kept, residual, stage.keep)
        self._stores.drop(residual)
        return stems

    def _mean(self, model: SeparationModel, mixture: Signal, progress: Progress | None) -> Store:
        """Run the members of an ensemble, each on the mixture."""
        names = model.sources

        def separate(part: SeparationModel, heard: Signal, told: Progress | None) -> Store:
            estimates = self.separate(part, heard, told)
            self._share_residual(_Sources(estimates, part.sources, names), heard, names)
            return estimates

        return mean_of_runs(
            [
                Run(
                    partial(separate, part.model),
                    part.model.sources,
                    weight=part.share,
                    finish=partial(_with_rest, names=names),
                )
                for part in model.in_members()
            ],
            mixture,
            sources=names,
            sample_rate=self._sample_rate,
            stores=self._stores,
            progress=progress,
        )

    def _share_residual(
        self, stems: ChangeableSignal, mixture: Signal, names: Sequence[str]
    ) -> None:
        """Distribute what stems lack of a mixture over them if none of them holds the residual."""
        if rest_of(names) is None:
            apply_gain_rule("mixture-consistent", stems, mixture, sample_rate=self._sample_rate)


def _with_rest(stems: Samples, mixture: Samples, names: Sequence[str]) -> Samples:
    """Add what stems lack of a mixture to the one that holds the residual, if there is one.

    With `_Separation._share_residual` this is `composite.with_residual` for signals of any length.
    """
    rest = rest_of(names)
    if rest is None:
        return stems
    stems = stems.copy()
    stems[names.index(rest)] += mixture - stems.sum(axis=0)
    return stems


class _Sources:
    """Some sources of a store, as a signal of their own.

    Args:
        store: Shape (source, channel, time).
        names: Names of its sources.
        wanted: Names of some of them, in the order wanted.
    """

    def __init__(self, store: Store, names: Sequence[str], wanted: Sequence[str]) -> None:
        self._store, self._places = store, [names.index(name) for name in wanted]

    @property
    def leading(self) -> tuple[int, ...]:
        return (len(self._places), *self._store.leading[1:])

    @property
    def frames(self) -> int:
        return self._store.frames

    def read(self, start: int, stop: int) -> Samples:
        return self._store.read(start, stop)[self._places]

    def append(self, block: Samples) -> None:
        """Add samples at the end; sources that are not wanted are silent there."""
        stems = np.zeros((*self._store.leading, block.shape[-1]), dtype=np.float32)
        stems[self._places] = block
        self._store.append(stems)

    def write(self, start: int, block: Samples) -> None:
        stems = self._store.read(start, start + block.shape[-1]).copy()
        stems[self._places] = block
        self._store.write(start, stems)
