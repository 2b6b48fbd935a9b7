"""Separate a signal while it arrives."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from sfisep_core.audio.chunks import Chunk, ChunkGrid, OverlapAdd
from sfisep_core.audio.stores import Samples
from sfisep_core.errors import ConfigError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.separation.overlap_add import FADE_SECONDS
from sfisep_core.separation.settings import LONGEST_SEGMENT


def stream_latency(model: SeparationModel, *, sample_rate: int, segment: float) -> float:
    """Compute the maximum delay of the stems in seconds, without computing time.

    It is a segment, rounded up to a multiple of the model's `chunk_alignment`, plus twice the
    context for the first stems, and one context less for later ones.

    Args:
        model: The separator.
        sample_rate: Hz.
        segment: Seconds between two windows.

    Raises:
        ConfigError: The model's stems depend on the whole signal, or the segment is out of range.
    """
    # One more sample is needed to know that a window was not the last.
    return (_grid(model, sample_rate, segment).window + 1) / sample_rate


def separate_stream(
    model: SeparationModel, blocks: Iterable[Samples], *, sample_rate: int, segment: float
) -> Iterator[Samples]:
    """Separate blocks of a signal; the output equals that for the whole signal.

    Args:
        model: A chunk-invariant, mixture-consistent model in evaluation mode, on its device.
        blocks: Shape (channel, time), any length each.
        sample_rate: Hz.
        segment: Seconds between two windows, above 0: a smaller value reduces latency and needs
            more computation, since every window includes the model's context.

    Yields:
        Stems in the model's order, shape (source, channel, time); together as long as the signal.

    Raises:
        ConfigError: The model's stems depend on the whole signal, or the segment has no length.
    """
    grid = _grid(model, sample_rate, segment)
    chunks: list[Chunk] = []
    joined = OverlapAdd(chunks)
    pending: Samples | None = None  # samples that later windows need
    start = received = number = 0

    def run(chunk: Chunk, signal: Samples) -> Samples:
        part = torch.from_numpy(signal[:, chunk.start - start : chunk.stop - start])
        device = next(model.parameters()).device
        with torch.inference_mode():
            estimate = model(part.unsqueeze(0).to(device), sample_rate=sample_rate)[0]
        return joined.push(number, estimate.float().cpu().numpy())

    for block in blocks:
        pending = block if pending is None else np.concatenate([pending, block], axis=-1)
        received += block.shape[-1]
        # One more sample is needed to know that a window is not the last.
        while received > (chunk := grid.inner(number)).stop:
            chunks[number:] = [chunk, grid.inner(number + 1)]
            yield run(chunk, pending)
            number += 1
            # The last window may start before the next regular one.
            keep = min(grid.inner(number).start, received - grid.window)
            pending, start = pending[:, keep - start :], keep
    if pending is not None and received > 0:
        last_number, last = grid.last(received)
        assert last_number == number
        chunks[number:] = [last]
        yield run(last, pending)


def _grid(model: SeparationModel, sample_rate: int, segment: float) -> ChunkGrid:
    """Return the windows of a stream, for a model that can separate one."""
    if not 0 < segment <= LONGEST_SEGMENT:
        msg = f"segment: expected seconds above 0 and up to {LONGEST_SEGMENT:g}, got {segment}"
        raise ConfigError(msg)
    rule = model.segments
    if not rule.chunk_invariant or model.normalizes_level or model.gain_rule == "least-squares":
        msg = (
            "this model cannot separate a stream: expected one whose stems depend on a few seconds "
            "around them, but its norms, levels or gains span the whole signal: take another, or "
            "separate whole recordings"
        )
        raise ConfigError(msg)
    return ChunkGrid(
        segment=math.ceil(segment * sample_rate),
        context=round(rule.context_seconds * sample_rate),
        fade=round(FADE_SECONDS * sample_rate),
        alignment=model.chunk_alignment(sample_rate),
    )
