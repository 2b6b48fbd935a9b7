"""Cut a long signal into windows of one length, and join the results without seams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfisep_core.errors import ConfigError

# A model's output is inaccurate near the ends of its window, because it has no input beyond them.
# So every window has `context` samples on both sides whose output is discarded, and `fade` samples
# in the middle of the overlap of two windows are cross-faded. With C = context and S = segment,
# windows start S samples apart and the cross-fade from chunk k to chunk k + 1 is centred at sample
# (k + 1) S + C:
#
#               0           S        S+C       S+2C
#               |           |         |         |
#    window 0   [-------------------------------)
#    weight     #####################\\\........           # weight 1
#    window 1               [---------------------- ...
#    weight                 .........///########### ...    . thrown away
#                                    |-|
#                                    fade: the two weights sum to 1
# At an inner edge C - fade / 2 samples are discarded, and no three windows overlap because fade <=
# S. The last window is moved back so that it ends where the signal ends. All windows thus have one
# length, which matters to models whose norms span time. Its cross-fade is not moved, so more of its
# start is discarded.


@dataclass(frozen=True)
class Chunk:
    """One window of a signal, in samples of that signal.

    Attributes:
        start: First input sample of the model; a multiple of the plan's alignment.
        stop: One past the last input sample of the model.
        keep_start: First sample of the result that is used, the rising cross-fade included.
        keep_stop: One past the last sample that is used, the falling cross-fade included.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int


class ChunkGrid:
    """Positions of the windows of a signal, independent of its length.

    Attributes:
        window: Length of a window in samples; 0 = the whole signal.
    """

    window: int

    def __init__(self, *, segment: int, context: int, fade: int, alignment: int) -> None:
        """Check and round the lengths.

        Args:
            segment: Distance between window starts in samples, rounded up to a multiple of
                `alignment`; 0 means one window for the whole signal.
            context: Additional input samples of the model on each side of a segment; 0 or more.
            fade: Length of the cross-fades in samples, 0 or more. It is limited to the segment and
                to twice the context.
            alignment: Every window starts at a multiple of this, in samples (a model's hop); 1 or
                more.

        Raises:
            ConfigError: If an argument is out of range.
        """
        for name, value in {"segment": segment, "context": context, "fade": fade}.items():
            _check_not_negative(name, value)
        if alignment < 1:
            msg = (
                f"chunk plan: alignment must be 1 sample or more, got {alignment}; "
                "pass a model's hop"
            )
            raise ConfigError(msg)
        self._alignment = alignment
        self._segment = _round_up(segment, alignment)
        self._context = context
        self._fade = min(fade, self._segment, 2 * self._context)
        self.window = self._segment + 2 * self._context if self._segment else 0

    def inner(self, index: int) -> Chunk:
        """Return a window that is followed by another one."""
        start = index * self._segment
        rise = start + self._context - self._fade // 2
        return Chunk(
            start=start,
            stop=start + self.window,
            keep_start=0 if index == 0 else rise,
            keep_stop=rise + self._segment + self._fade,
        )

    def last(self, frames: int) -> tuple[int, Chunk]:
        """Return index and position of the last window of a signal.

        Args:
            frames: Length of the signal in samples, 1 or more.
        """
        if self.window == 0 or frames <= self.window:
            return 0, Chunk(start=0, stop=frames, keep_start=0, keep_stop=frames)
        index = -(-(frames - self.window) // self._segment)
        start = _round_up(frames - self.window, self._alignment)
        stop = min(start + self.window, frames)
        return index, Chunk(start, stop, self.inner(index).keep_start, keep_stop=frames)


def even_segment(frames: int, *, segment: int, context: int) -> int:
    """Shorten segments so that they divide a signal evenly.

    Otherwise the last window would largely overlap the one before it: 30 s in segments of 20 s
    would cost as much as 40 s.

    Args:
        frames: Length of the signal in samples, 0 or more.
        segment: Maximum length of a segment in samples; 0 means one window for the whole signal.
        context: Samples around each segment.

    Returns:
        Samples of a segment; the number of windows does not change.
    """
    shared = frames - 2 * context
    if segment == 0 or shared <= segment:
        return segment
    return -(-shared // -(-shared // segment))


def plan_chunks(
    frames: int, *, segment: int, context: int, fade: int, alignment: int
) -> list[Chunk]:
    """Plan the windows of a signal of known length.

    Args:
        frames: Length of the signal in samples, 0 or more.
        segment: See `ChunkGrid`, as for the following arguments.
        context: Samples around each segment.
        fade: Length of the cross-fades.
        alignment: Alignment of the starts.

    Returns:
        The windows in order. All have `segment + 2 * context` samples, except that the last may
        have up to `alignment - 1` fewer, so that it both starts aligned and ends with the signal.
        For a signal that fits into one window there is one chunk; for an empty signal there is
        none.

    Raises:
        ConfigError: If an argument is out of range.
    """
    _check_not_negative("frames", frames)
    grid = ChunkGrid(segment=segment, context=context, fade=fade, alignment=alignment)
    if frames == 0:
        return []
    number, last = grid.last(frames)
    return [*(grid.inner(index) for index in range(number)), last]


class OverlapAdd:
    """Join the outputs of the windows of a plan, keeping only one cross-fade in memory."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        """Start without any output.

        Args:
            chunks: A plan as `plan_chunks` makes it.
        """
        self._chunks = chunks
        self._next = 0
        self._tail: NDArray[np.float32] | None = None

    def push(self, index: int, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add the output of the next window and return the samples that are now final.

        Args:
            index: Position of the window in the plan; windows arrive in order.
            array: Output of the model, float32, shape (..., time), one sample per sample of the
                window.

        Returns:
            The samples that no later window changes, shape (..., time). All returned pieces
            together have exactly as many samples as the signal.

        Raises:
            ConfigError: If the window is not the next one, or the output has another length than
                the window.
        """
        chunk = self._chunks[index]
        if index != self._next or array.shape[-1] != chunk.stop - chunk.start:
            msg = (
                f"overlap-add: expected chunk {self._next} of {len(self._chunks)} with one sample "
                f"per sample of its window, got chunk {index} with {array.shape[-1]} samples for "
                f"a window of {chunk.stop - chunk.start}; pass the results in order and uncut"
            )
            raise ConfigError(msg)
        kept = array[..., chunk.keep_start - chunk.start : chunk.keep_stop - chunk.start].copy()
        if self._tail is not None:
            fade = self._tail.shape[-1]
            # Midpoints, so that the rise and the fall are mirror images of each other.
            rise = (np.arange(fade, dtype=np.float32) + np.float32(0.5)) / np.float32(max(fade, 1))
            # tail (1 - rise) + kept rise, in the form whose two weights sum to exactly 1.
            kept[..., :fade] = self._tail + rise * (kept[..., :fade] - self._tail)
        self._next += 1
        if self._next == len(self._chunks):
            self._tail = None
            return kept
        final = self._chunks[self._next].keep_start - chunk.keep_start
        self._tail = kept[..., final:].copy()  # a view would keep the whole array in memory
        return kept[..., :final]


def _check_not_negative(name: str, value: int) -> None:
    if value < 0:
        msg = f"chunk plan: {name} must be 0 samples or more, got {value}; pass a larger {name}"
        raise ConfigError(msg)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
