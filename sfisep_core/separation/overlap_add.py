"""Run a model on a whole signal at the signal's own rate, window by window."""

import logging
import math
from contextlib import nullcontext
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch

from sfisep_core.audio.chunks import Chunk, OverlapAdd, even_segment, plan_chunks
from sfisep_core.audio.stores import MemoryStore, Signal, Store, Stores, walk
from sfisep_core.devices import is_out_of_memory
from sfisep_core.errors import ConfigError, DeviceError
from sfisep_core.foundation.exit_signals import raise_received
from sfisep_core.foundation.memory import return_freed_memory
from sfisep_core.models.contract import SeparationModel
from sfisep_core.separation.gains import apply_gain_rule
from sfisep_core.separation.settings import DEFAULT_SETTINGS, Progress, SeparationSettings

# Duration of the cross-fade of adjacent segments; a short one is enough where they agree.
FADE_SECONDS = 0.05
_FADE_SECONDS_NOT_INVARIANT = 1.0
# Shortest segment when memory is low: below it the network needs more memory than the segments.
_SHORTEST_SEGMENT = 1.0

_logger = logging.getLogger(__name__)


def separate_in_windows(
    model: SeparationModel,
    mixture: Signal,
    *,
    sample_rate: int,
    stores: Stores,
    settings: SeparationSettings,
    progress: Progress | None,
) -> Store:
    """Separate a signal of any length at its own rate, with memory that does not depend on it.

    Args:
        model: A model in evaluation mode, on its device.
        mixture: Shape (channel, time).
        sample_rate: Hz.
        stores: Creates the store of the stems.
        settings: How the signal is cut and computed; their method is ignored.
        progress: Called with seconds done and total seconds.

    Returns:
        Stems in the model's order, shape (source, channel, time).

    Raises:
        AudioFileError: There is not enough disk space for the stems.
        ConfigError: The model cannot work at this rate.
        DeviceError: Not enough memory, even for short segments.
    """
    level = _level(mixture) if model.normalizes_level else None
    seconds = float(model.segments.seconds) if settings.segment is None else settings.segment
    stems = stores.make((len(model.sources), *mixture.leading), mixture.frames)
    while True:
        windows = _Windows(model, mixture, level, sample_rate, settings, seconds)
        try:
            windows.separate(stems, progress)
            break
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            whole = seconds == 0 or seconds * sample_rate > mixture.frames
            seconds = (mixture.frames / sample_rate if whole else seconds) / 2
            if seconds < _SHORTEST_SEGMENT:
                msg = (
                    f"device {windows.device}: out of memory even for segments of "
                    f"{2 * seconds:.1f} s at {sample_rate} Hz with {mixture.leading[0]} channels: "
                    "close other programs"
                    f"{', or pass --device cpu' if windows.device.type != 'cpu' else ''}"
                )
                raise DeviceError(msg) from error
            _logger.warning(
                "device %s: out of memory; going on with segments of %.1f s (--segment %.1f "
                "spares the first try)",
                windows.device,
                seconds,
                seconds,
            )
        stores.drop(stems)
        stems = stores.make((len(model.sources), *mixture.leading), mixture.frames)
    if model.gain_rule != "mixture-consistent" or level is not None:
        # Otherwise the model's stems already add up, and so do their cross-fades.
        apply_gain_rule(model.gain_rule, stems, mixture, sample_rate=sample_rate)
    return stems


def compile_model(model: SeparationModel, settings: SeparationSettings = DEFAULT_SETTINGS) -> None:
    """Compile a model's network in place, for windows of any length.

    Args:
        model: In evaluation mode, on its device.
        settings: How it will be used.

    Raises:
        ConfigError: It cannot be compiled, for example without a C++ compiler.
    """
    model.compile_network(dynamic=True)
    noise = np.random.default_rng(0).normal(0.0, 0.1, (1, model.native_rate)).astype(np.float32)
    try:
        separate_in_windows(
            model,
            MemoryStore(noise),
            sample_rate=model.native_rate,
            stores=Stores(),
            settings=settings,
            progress=None,
        )
    except RuntimeError as error:
        raise_received()
        reason = str(error).strip().partition("\n")[0]
        msg = f"compile: expected a network that PyTorch compiles here, got {reason}: leave it out"
        raise ConfigError(msg) from error


class _Windows:
    """A signal cut into windows, and the model that separates each."""

    def __init__(
        self,
        model: SeparationModel,
        mixture: Signal,
        level: npt.NDArray[np.float32] | None,
        sample_rate: int,
        settings: SeparationSettings,
        seconds: float,
    ) -> None:
        rule = model.segments
        self.device = next(model.parameters()).device
        self._model, self._mixture, self._level = model, mixture, level
        self._sample_rate, self._settings = sample_rate, settings
        context = float(rule.context_seconds)
        if settings.overlap is not None:
            context = settings.overlap * seconds / (2 * (1 - settings.overlap))
        fade = FADE_SECONDS if rule.chunk_invariant else _FADE_SECONDS_NOT_INVARIANT
        segment, around = math.ceil(seconds * sample_rate), round(context * sample_rate)
        if settings.overlap is None:  # unless the user sets the overlap
            segment = even_segment(mixture.frames, segment=segment, context=around)
        self._chunks = plan_chunks(
            mixture.frames,
            segment=segment,
            context=around,
            fade=round(fade * sample_rate),
            alignment=model.chunk_alignment(sample_rate),
        )

    @torch.inference_mode()
    def separate(self, stems: Store, progress: Progress | None) -> None:
        """Append the stems of the whole signal to a store."""
        joined, done, batch_size = OverlapAdd(self._chunks), 0, self._settings.batch_size
        total = self._mixture.frames / self._sample_rate
        # Only windows of one length fit into one batch; the last may be shorter.
        for _, same in groupby(self._chunks, key=lambda chunk: chunk.stop - chunk.start):
            windows, first = list(same), 0
            while first < len(windows):
                try:
                    estimates = self._estimate(windows[first : first + batch_size])
                except Exception as error:
                    if batch_size == 1 or not is_out_of_memory(error):
                        raise
                    batch_size //= 2
                    _logger.warning(
                        "device %s: out of memory; going on with --batch-size %d",
                        self.device,
                        batch_size,
                    )
                    continue
                first += batch_size
                for estimate in estimates:
                    stems.append(joined.push(done, estimate))
                    done += 1
                    if progress is not None:
                        progress(stems.frames / self._sample_rate, total)
                del estimates, estimate  # frees them before the next batch is computed
                return_freed_memory()  # else a long signal's peak grows window by window

    def _estimate(self, chunks: list[Chunk]) -> npt.NDArray[np.float32]:
        """Separate windows of one length; shape (window, source, channel, time)."""
        parts = np.stack([self._mixture.read(chunk.start, chunk.stop) for chunk in chunks])
        if self._level is not None:
            parts = parts / self._level
        precision = self._settings.precision
        kind = torch.bfloat16 if precision == "bf16" else torch.float16
        with torch.autocast(self.device.type, kind) if precision != "fp32" else nullcontext():
            estimates = self._model(
                torch.from_numpy(parts).to(self.device), sample_rate=self._sample_rate
            )
        stems: npt.NDArray[np.float32] = estimates.float().cpu().numpy()
        return stems if self._level is None else stems * self._level


def _level(mixture: Signal) -> npt.NDArray[np.float32]:
    """Compute each channel's standard deviation, shape (channel, 1); 1 for a constant channel."""
    frames = mixture.frames
    if frames < 2:
        return np.ones((*mixture.leading, 1), dtype=np.float32)
    total = sum(block.sum(axis=1, dtype=np.float64) for block in walk(mixture))
    mean = (total / frames)[:, None]
    power = sum(np.square(block - mean).sum(axis=1) for block in walk(mixture))
    deviation = np.sqrt(power / (frames - 1))[:, None].astype(np.float32)
    return np.where(deviation > 0, deviation, np.float32(1.0))
