"""Separate a signal while it comes in."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from sfisep_core.audio.chunks import Chunk, ChunkGrid, OverlapAdd
from sfisep_core.audio.stores import Samples
from sfisep_core.errors import ConfigError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.separation.native import FADE_SECONDS
from sfisep_core.separation.settings import LONGEST_SEGMENT


def stream_latency(model: SeparationModel, *, sample_rate: int, segment: float) -> float:
    """Give the most seconds by which stems are behind the mixture, computing time left aside.

    It is a segment and twice the context: the first stems take so long, later ones one context
    less.

    Args:
        model: What separates.
        sample_rate: Hz.
        segment: Seconds between two windows.

    Raises:
        ConfigError: A segment out of range.
    """
    # The next sample shows that a window was not the last.
    return (_grid(model, sample_rate, segment).window + 1) / sample_rate


def separate_stream(
    model: SeparationModel, blocks: Iterable[Samples], *, sample_rate: int, segment: float
) -> Iterator[Samples]:
    """Separate blocks of a signal; what comes out is what the whole signal would give.

    Args:
        model: In evaluation mode, on its device; chunk-invariant and mixture-consistent.
        blocks: Shape (channel, time), any length each.
        sample_rate: Hz.
        segment: Seconds between two windows, above 0: less gives less latency, and takes more
            computing, since every window carries the model's context.

    Yields:
        Stems in the model's order, shape (source, channel, time); together as long as the signal.

    Raises:
        ConfigError: A model whose stems depend on all of a signal, or a segment of no length.
    """
    grid = _grid(model, sample_rate, segment)
    rule = model.segments
    if not rule.chunk_invariant or model.normalizes_level or model.gain_rule == "least-squares":
        msg = (
            "this model cannot separate a stream: expected one whose stems depend on a few seconds "
            "around them, but its norms, levels or gains span the whole signal; use separate()"
        )
        raise ConfigError(msg)
    chunks: list[Chunk] = []
    joined = OverlapAdd(chunks)
    heard: Samples | None = None  # what windows still need
    start = received = number = 0

    def run(chunk: Chunk, signal: Samples) -> Samples:
        part = torch.from_numpy(signal[:, chunk.start - start : chunk.stop - start])
        device = next(model.parameters()).device
        with torch.inference_mode():
            estimate = model(part.unsqueeze(0).to(device), sample_rate=sample_rate)[0]
        return joined.push(number, estimate.float().cpu().numpy())

    for block in blocks:
        heard = block if heard is None else np.concatenate([heard, block], axis=-1)
        received += block.shape[-1]
        # Only the next sample shows that a window is not the last.
        while received > (chunk := grid.inner(number)).stop:
            chunks[number:] = [chunk, grid.inner(number + 1)]
            yield run(chunk, heard)
            number += 1
            # The last window may begin before the next one would.
            keep = min(grid.inner(number).start, received - grid.window)
            heard, start = heard[:, keep - start :], keep
    if heard is not None and received > 0:
        last_number, last = grid.last(received)
        assert last_number == number
        chunks[number:] = [last]
        yield run(last, heard)


def _grid(model: SeparationModel, sample_rate: int, segment: float) -> ChunkGrid:
    if not 0 < segment <= LONGEST_SEGMENT:
        msg = f"segment: expected seconds above 0 and up to {LONGEST_SEGMENT:g}, got {segment}"
        raise ConfigError(msg)
    return ChunkGrid(
        segment=math.ceil(segment * sample_rate),
        context=round(model.segments.context_seconds * sample_rate),
        fade=round(FADE_SECONDS * sample_rate),
        alignment=model.chunk_alignment(sample_rate),
    )
