"""Average the stems of several runs: time shifts of a mixture, several models, an ensemble's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sfisep_core.audio.stores import Samples, Signal, Store, Stores, block_ranges
from sfisep_core.separation.settings import Progress

# Seconds over which the shifts are spread, as in Demucs.
_SPAN = 0.5


@dataclass(frozen=True)
class Run:
    """One of the runs to average.

    Attributes:
        separate: Separates a mixture; called with it and a callback for progress.
        sources: Order of the stems that it returns.
        delay: Silence before the mixture in samples.
        weight: Its share of the mean, relative to those of the others.
        finish: Called with a block of the stems to average and the same block of the mixture;
            returns the block of stems that counts. None = the stems are averaged as they are.
    """

    separate: Callable[[Signal, Progress | None], Store]
    sources: Sequence[str]
    delay: int = 0
    weight: float = 1.0
    finish: Callable[[Samples, Samples], Samples] | None = None


def shift_delays(shifts: int, sample_rate: int) -> list[int]:
    """Return the delays of a number of time shifts in samples, evenly spaced from 0 on."""
    return [round(number * _SPAN * sample_rate / shifts) for number in range(shifts)]


def mean_of_runs(
    runs: Sequence[Run],
    mixture: Signal,
    *,
    sources: Sequence[str],
    sample_rate: int,
    stores: Stores,
    progress: Progress | None,
) -> Store:
    """Average the stems of several runs by name.

    Stems of runs that add up to the mixture add up to it in the mean as well.

    Args:
        runs: At least one.
        mixture: Shape (channel, time).
        sources: Names of the stems to average, which all runs return.
        sample_rate: Hz.
        stores: Creates the store of the mean.
        progress: Called with seconds done, as a mean over the runs, and total seconds.

    Returns:
        Stems in the order of `sources`, shape (source, channel, time).
    """
    total = np.float32(sum(run.weight for run in runs))
    mean = stores.make((len(sources), *mixture.leading), mixture.frames)
    seconds = mixture.frames / sample_rate
    for number, run in enumerate(runs):
        estimates = run.separate(
            _Delayed(mixture, run.delay), part_of(progress, number, len(runs), seconds)
        )
        rows = [run.sources.index(name) for name in sources]
        for start, stop in block_ranges(mixture):
            block = estimates.read(start + run.delay, stop + run.delay)[rows]
            if run.finish is not None:
                block = run.finish(block, mixture.read(start, stop))
            block = block * np.float32(run.weight) / total
            if number == 0:
                mean.append(block)
            else:
                mean.write(start, mean.read(start, stop) + block)
        stores.drop(estimates)
    return mean


class _Delayed:
    """A signal after silence."""

    def __init__(self, signal: Signal, delay: int) -> None:
        self._signal, self._delay = signal, delay

    @property
    def leading(self) -> tuple[int, ...]:
        return self._signal.leading

    @property
    def frames(self) -> int:
        return self._delay + self._signal.frames

    def read(self, start: int, stop: int) -> Samples:
        silence = max(min(stop, self._delay) - start, 0)
        block = np.zeros((*self.leading, stop - start), dtype=np.float32)
        block[..., silence:] = self._signal.read(
            max(start - self._delay, 0), max(stop - self._delay, 0)
        )
        return block


def part_of(progress: Progress | None, number: int, count: int, seconds: float) -> Progress | None:
    """Report the progress of run `number` of `count` as a part of the whole's seconds."""
    if progress is None:
        return None
    return lambda done, total: progress((number + done / (total or 1)) / count * seconds, seconds)
