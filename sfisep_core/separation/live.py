"""Separate raw samples while they come in, from one stream of bytes to another.

PyTorch is loaded only after the checks, and while the stream is already being read.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sfisep_core.audio.formats import Encoding
from sfisep_core.audio.pcm import (
    Samples,
    bytes_per_sample,
    check_encoding,
    decode_pcm,
    encode_pcm,
)
from sfisep_core.errors import AudioFileError, ConfigError
from sfisep_core.foundation.byte_streams import ByteReader, ByteWriter, ReadAhead, WriteBehind
from sfisep_core.separation.checks import MAX_CHANNELS, check_rate
from sfisep_core.separation.output import Output

if TYPE_CHECKING:
    from sfisep_core.models.contract import SeparationModel
    from sfisep_core.separation.separator import Separator

# Seconds of samples that may wait on either side: longer than a pause of a busy computer, and than
# the start of PyTorch.
_WAITING_SECONDS = 20

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LiveRequest:
    """Request of `separate_live`.

    Attributes:
        sample_rate: Hz, of input and output.
        channels: Of the input, and of each stem; 1 to 64.
        encoding: Of the samples of input and output: "int16", "int24" (three bytes) or "float32",
            little-endian.
        model: Name, path or address of a model, or a model, which can separate streams.
        stems: What is written, as in `Output.stems`; None = all stems.
        device: "auto", "cpu", "cuda" or "cuda:N".
        segment: Seconds between two windows, above 0: less reduces latency and takes more time.

    Raises:
        ConfigError: A value is out of range.
    """

    sample_rate: int
    channels: int
    encoding: Encoding = "int16"
    model: "str | SeparationModel" = "default"
    stems: tuple[str, ...] | None = None
    device: str = "auto"
    segment: float = 1.0

    def __post_init__(self) -> None:
        """Check values that need no model."""
        check_rate(self.sample_rate)
        check_encoding(self.encoding)
        if not 1 <= self.channels <= MAX_CHANNELS:
            msg = f"channels: expected 1 to {MAX_CHANNELS}, got {self.channels}"
            raise ConfigError(msg)

    @property
    def frame_bytes(self) -> int:
        """Bytes of all channels of the input at one moment."""
        return self.channels * bytes_per_sample(self.encoding)


@dataclass(frozen=True)
class LiveStart:
    """What is known before the first samples are separated.

    Attributes:
        stems: What is written, in this order: each frame of the output has all channels of the
            first stem, then all of the second, and so on.
        latency: Largest delay of the stems in seconds, without computing time.
    """

    stems: tuple[str, ...]
    latency: float


@dataclass(frozen=True)
class LiveResult:
    """What was done until the end of the input.

    Attributes:
        start: As `separate_live` told it.
        frames: Of the input, and as many of the output.
        seconds: The same in seconds.
        clipped: Number of samples of stems that exceeded full scale, and were clipped.
        waited: Largest number of seconds of samples that have waited to be separated.
        held_up: Seconds for which the input was not read, because too many samples waited.
    """

    start: LiveStart
    frames: int
    seconds: float
    clipped: int
    waited: float
    held_up: float


def separate_live(
    request: LiveRequest,
    reader: ByteReader,
    writer: ByteWriter,
    *,
    started: Callable[[LiveStart], None] | None = None,
) -> LiveResult:
    """Separate raw samples while they come in.

    The output has as many frames as the input. They come later than those of the input by
    `LiveStart.latency` and the computing time, and the last ones when the input ends. Input is read
    and output written by threads of their own, so that neither waits for a computation.

    Args:
        request: What comes in, and what is written.
        reader: Input; its `read` returns what is there.
        writer: Output.
        started: Called when the model is loaded, before the first samples are separated.

    Raises:
        AudioFileError: The input cannot be read, or contains NaN or Inf.
        CheckpointError: The model is missing or cannot be read.
        ConfigError: The model cannot separate a stream, or has no such stem.
        OSError: The output cannot be written, as the writer tells it.
    """
    _check_early(request)
    waiting = _WAITING_SECONDS * request.sample_rate * request.frame_bytes
    with ReadAhead(reader, capacity=waiting) as source:
        from sfisep_core.separation.separator import Separator

        separator = Separator(request.model, device=request.device)
        names = _names(request, separator.sources)
        latency = separator.stream_latency(sample_rate=request.sample_rate, segment=request.segment)
        start = LiveStart(names, latency)
        if started is not None:
            started(start)
        frames = clipped = 0
        with WriteBehind(writer, capacity=waiting * len(names)) as sink:
            for stems in _separated(request, separator, names, source):
                data, count = encode_pcm(stems, encoding=request.encoding)
                sink.write(data)
                frames, clipped = frames + stems.shape[-1], clipped + count
            sink.finish()
        return LiveResult(
            start,
            frames,
            frames / request.sample_rate,
            clipped,
            source.most_waiting / (request.frame_bytes * request.sample_rate),
            source.held_seconds,
        )


def _check_early(request: LiveRequest) -> None:
    """Run the checks of model and stems that do not need PyTorch.

    Raises:
        CheckpointError: The model is missing.
        ConfigError: It is more than one, or has no such stem.
    """
    from sfisep_core.pretrained.address import member_names
    from sfisep_core.pretrained.registry import known_sources

    if not isinstance(request.model, str):
        return
    if len(member_names(request.model)) > 1:
        msg = f"model {request.model}: a stream is separated by one model: choose one of them"
        raise ConfigError(msg)
    sources = known_sources(request.model)
    if sources is not None:
        _names(request, sources)


def _names(request: LiveRequest, sources: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(Output(stems=request.stems).names(sources))


def _separated(
    request: LiveRequest, separator: "Separator", names: tuple[str, ...], source: ReadAhead
) -> Iterator[Samples]:
    """Yield what is to be written, shape (stem and channel, time)."""
    from sfisep_core.separation.stem_files import signal_of

    behind: list[Samples] = []  # the mixture of stems that are still to come

    def blocks() -> Iterator[Samples]:
        for block in _decoded(request, source):
            behind.append(block)
            yield block

    for by_name in separator.stream(
        blocks(), sample_rate=request.sample_rate, segment=request.segment
    ):
        stems = np.stack(list(by_name.values()))
        waiting = np.concatenate(behind, axis=-1)
        mixture, behind[:] = waiting[:, : stems.shape[-1]], [waiting[:, stems.shape[-1] :]]
        yield np.concatenate([signal_of(name, mixture, stems, tuple(by_name)) for name in names])


def _decoded(request: LiveRequest, source: ReadAhead) -> Iterator[Samples]:
    """Yield blocks of samples as they come in, shape (channel, time)."""
    rest, told = b"", False
    while data := _taken(source):
        data = rest + data
        whole = len(data) - len(data) % request.frame_bytes
        rest = data[whole:]
        if source.held_seconds and not told:
            told = True
            _logger.info(
                "the input comes faster than it is separated, and has to wait: a recorder may lose "
                "samples"
            )
        block = decode_pcm(data[:whole], channels=request.channels, encoding=request.encoding)
        if not np.isfinite(block).all():
            msg = "input: expected finite samples, found NaN or Inf: are they of type float32?"
            raise AudioFileError(msg)
        if whole:
            yield block
    if rest:
        _logger.warning(
            "the input ends within a frame: left out the last %d bytes, where a frame has %d",
            len(rest),
            request.frame_bytes,
        )


def _taken(source: ReadAhead) -> bytes:
    try:
        return source.take()
    except OSError as error:
        msg = f"input: expected samples, got {error.strerror or error}: check where they come from"
        raise AudioFileError(msg) from error
