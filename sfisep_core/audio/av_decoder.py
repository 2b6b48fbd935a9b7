"""Decode what libsndfile does not read, or stops at, with the libraries of ffmpeg (PyAV)."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sfisep_core.audio.container_sizes import SampleData
from sfisep_core.audio.endings import is_cut, mp3_bytes_are_counted, tiny_mp3_frames
from sfisep_core.audio.source_files import unreadable
from sfisep_core.audio.timeline import Timeline, flac_start
from sfisep_core.errors import AudioFileError

# Formats that hold the samples themselves. Playlists, scripts and other formats that name further
# files stay out, whatever suffix they bear. Names that a build of ffmpeg lacks do no harm.
_DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,latm,loas,matroska,mlp,"
    "mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nut,oga,ogg,oma,rm,shn,tak,truehd,tta,voc,w64,wav,wtv,wv,xwma"
)
# Packets with checksums: one that fails is left out, because wrong samples can be very loud.
_CHECKED_CODECS = {"flac", "tta", "wavpack", "tak"}
# Containers whose length is counted, and not estimated from a bit rate.
_COUNTED_CONTAINERS = {"mov", "matroska", "avi", "flac", "wv", "tta", "ape", "mpc8", "tak"}
# Containers that are read up to the announced number of samples.
_SIZED_CONTAINERS = {"wav", "w64", "aiff", "caf", "au"}
# Lengths of these are rounded, or those of other tracks.
_ROUNDED_CONTAINERS = {"mov", "matroska", "avi"}
_TOLERANCE_SECONDS = 0.25
_MAX_READ_FAULTS = 16
_BLOCK_FRAMES = 65536
# ffmpeg numbers loudspeakers as WAV does.
_SPEAKERS = "FL FR FC LFE BL BR FLC FRC BC SL SR TC TFL TFC TFR TBL TBC TBR".split()  # noqa: SIM905


_DTYPES = {
    "u8": np.uint8,
    "s16": np.int16,
    "s32": np.int32,
    "s64": np.int64,
    "flt": np.float32,
    "dbl": np.float64,
}
# From so many planes on PyAV counts one too many (18.1): these are packed first.
_MAX_PLANES = 7


class AvDecoder:
    """Decode the audio track of a file that is not trusted, forward, once.

    Memory does not depend on the length, no other file is opened, and no network. Behind a fault
    decoding goes on. Where the file tells how much is lost there, so much silence takes its place.

    Attributes:
        sample_rate: In Hz; what has another rate later on is resampled.
        channels: 1 or more; what has another number later on is mixed.
        channel_mask: Places of the loudspeakers as WAV numbers them; 0 = not told.
        container: mp3, ogg, m4a, webm, asf, ...
        encoding: mp3, opus, aac, alac, ...
        position: Samples that were read.
        frame_bytes: 0: unknown.
        remarks: What a user should know although nothing is wrong.
        reads_all: Whether what lies behind the announced samples is read as well.
    """

    def __init__(self, path: Path, raw: io.FileIO, sizes: SampleData | None = None) -> None:
        """Open a file and decode its beginning.

        Args:
            path: The file.
            raw: The same, open; it stays open, and its position changes.
            sizes: What its chunks say.

        Raises:
            AudioFileError: If nothing can be decoded.
        """
        try:
            import av  # only here: most files do not need it
        except ImportError as error:
            found = f"a package av that cannot be imported ({error})"
            advice = "install it anew: pip install --force-reinstall av"
            raise unreadable(path, "the decoders of ffmpeg", found, advice) from error
        self._av = av
        self._path, self._raw, self._sizes = path, raw, sizes
        self._blocks: Generator[NDArray[np.float32], None, None]
        self._rest: NDArray[np.float32] | None
        # A protocol that exists nowhere: no format can open another file.
        options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "none"}
        raw.seek(0)
        head = raw.read(2).ljust(2, b"\0")
        # A short MP3 has too few packets to be recognised. The bits beside are those of its layer.
        kind = "mp3" if head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 6 else None
        # A WAV that announces nothing is read to its end.
        unread = sizes.start - 4 if sizes is not None and sizes.real_bytes() else None
        source = _Source(path, raw, zeros_at=unread)
        try:
            self._file = av.open(
                source, "r", format=kind, options=options, metadata_errors="backslashreplace"
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._undecodable(getattr(error, "strerror", None) or str(error)) from error
        try:
            self._start()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        """Return the decoder itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close what was opened here."""
        self._blocks.close()
        self._file.close()

    def read(self, frames: int) -> NDArray[np.float32]:
        """Read the next samples.

        Args:
            frames: Most samples per channel to read, 1 or more.

        Returns:
            The samples, shape (channels, frames), full scale at 1.0; fewer only at the end.

        Raises:
            OSError: The disk fails.
        """
        taken = [np.zeros((self.channels, 0), dtype=np.float32)]
        wanted = frames
        while wanted > 0:
            block = next(self._blocks, None) if self._rest is None else self._rest
            if block is None:
                break
            taken.append(block[:, :wanted])
            self._rest = block[:, wanted:] if block.shape[1] > wanted else None
            wanted -= taken[-1].shape[1]
        self.position += frames - wanted
        return np.concatenate(taken, axis=1)

    def skip(self, frames: int) -> None:
        """Leave samples out, up to the end of the file."""
        while frames > 0 and (count := self.read(min(frames, _BLOCK_FRAMES)).shape[1]) > 0:
            frames -= count

    def count(self) -> int:
        """Decode the whole file anew.

        Returns:
            Samples per channel that can be read from its beginning.
        """
        with AvDecoder(self._path, self._raw, self._sizes) as other:
            while other.read(_BLOCK_FRAMES).size > 0:
                pass
            return other.position

    def complaint(self) -> str:
        """Return what is wrong with the file, once it was read to its end; empty if nothing is."""
        parts = [self._timeline.describe()]
        announced = round(self._announced_seconds() * self.sample_rate)
        rounded = self._format in _ROUNDED_CONTAINERS
        if announced - self.position > (_TOLERANCE_SECONDS * self.sample_rate if rounded else 0):
            parts.append(
                f"its header announces {announced} frames, {self.position} could be decoded "
                f"({self.position / self.sample_rate:.3f} s)"
            )
        elif is_cut(self._raw, self._format):
            parts.append(f"its end is missing, behind {self.position / self.sample_rate:.3f} s")
        return "; ".join(part for part in parts if part)

    def _start(self) -> None:
        self._format, *others = self._file.format.name.split(",")
        self.remarks: list[str] = []
        self.reads_all = self._format not in _SIZED_CONTAINERS
        self._stream = self._choose_track()
        self._context = self._stream.codec_context
        self._context.thread_count = 1  # faults are then those of the packet at hand
        suffix = self._path.suffix.lower().removeprefix(".")
        self.container = suffix if suffix in others else self._format
        self.encoding = self._context.codec.canonical_name
        if self.encoding in _CHECKED_CODECS:
            self._context.options = {"err_detect": "crccheck+explode"}
        self.position = 0
        self.frame_bytes = 0
        self._read_faults = 0
        self._resampler: Any = None
        self._resampled_kind: tuple[int, int, str] | None = None
        self._set_format(self._context.sample_rate, self._context.layout)
        self._begun = self._changed = False
        limit = self._read_all_samples()
        if self._format == "mp3":
            self._timeline.bytes_are_counted = mp3_bytes_are_counted(self._raw)
            limit = tiny_mp3_frames(self._raw)
        self._blocks = self._decode() if limit is None else _first(self._decode(), limit)
        self._rest = next(self._blocks, None)
        if self._rest is None and (self._timeline.describe() or self._read_faults):
            reason = "no packet that is whole"
            raise self._undecodable(reason)
        if not self.sample_rate or not self.channels:
            reason = "no rate or number of channels"
            raise self._undecodable(reason)

    def _read_all_samples(self) -> int | None:
        """Return the length of a WAV whose header does not tell it; None for other files."""
        sizes = self._sizes
        if sizes is None or not sizes.block_bytes or not (length := sizes.real_bytes()):
            return None
        announced = (sizes.announced or 0) // sizes.block_bytes
        frames = length // sizes.block_bytes
        self.reads_all = True
        self.remarks.append(
            f"announces {announced} frames and goes on with samples: {frames} frames are read"
        )
        return frames

    def _choose_track(self) -> Any:
        tracks = [track for track in self._file.streams.audio if track.codec_context is not None]
        if not tracks:
            reason = "no audio track that it can decode"
            raise self._undecodable(reason)
        default = self._av.stream.Disposition.default
        chosen = next((track for track in tracks if track.disposition & default), tracks[0])
        if len(tracks) > 1:
            names = [chosen.metadata.get("title"), chosen.language]
            name = ", ".join(str(name) for name in names if name)
            self.remarks.append(
                f"has {len(tracks)} audio tracks: number {tracks.index(chosen) + 1}"
                f"{f' ({name})' if name else ''} is used"
            )
        return chosen

    def _set_format(self, sample_rate: int, layout: Any) -> None:
        self.sample_rate, self.channels = sample_rate, layout.nb_channels
        self._layout = layout
        speakers = [channel.name for channel in layout.channels]
        known = all(name in _SPEAKERS for name in speakers) and len(speakers) == self.channels
        self.channel_mask = sum(1 << _SPEAKERS.index(name) for name in speakers) if known else 0
        self._timeline = Timeline(self._format, sample_rate)

    def _decode(self) -> Generator[NDArray[np.float32], None, None]:
        for packet in self._packets():
            try:
                frames = self._context.decode(packet)
            except self._av.error.FFmpegError:
                self._timeline.lose(bytes(packet))
                continue
            if frames:
                self._timeline.learn(packet.size)
            start = self._start_of(packet)
            for frame in frames:
                yield from self._place(frame, start)
                start = None if start is None else start + frame.samples
        yield from self._resampled(None)
        self._timeline.end()

    def _packets(self) -> Iterator[Any]:
        while self._read_faults < _MAX_READ_FAULTS:
            try:
                yield from self._file.demux(self._stream)
            except self._av.error.FFmpegError:
                self._read_faults += 1
            else:
                return

    def _start_of(self, packet: Any) -> int | None:
        """Return the first sample of a packet if it tells it itself, and not by a time stamp."""
        if self._format != "flac" or not packet.size:
            return None
        return flac_start(bytes(packet), self._context.extradata or b"")

    def _place(self, frame: Any, start: int | None) -> Iterator[NDArray[np.float32]]:
        """Yield the samples of a frame, and before them silence for what is missing."""
        if not self._begun:
            self._begun = True
            if not self._is_as_at_first(frame):
                self._set_format(frame.sample_rate, frame.layout)
            self._timeline.begin(self._first_start())
        if self._format != "flac" and frame.pts is not None:
            start = round(frame.pts * frame.time_base * self.sample_rate)
        frames = round(frame.samples * self.sample_rate / frame.sample_rate)
        missing = self._timeline.silence_before(start, frames, faulty=frame.is_corrupt)
        if missing:
            yield from self._resampled(None)
            yield from self._silence(missing)
        changed = not self._is_as_at_first(frame)
        if changed or (frame.format.is_planar and self.channels > _MAX_PLANES):
            if changed:
                self._remark_change(frame)
            yield from self._resampled(frame)
        else:
            yield from self._resampled(None)
            yield _samples(frame)

    def _is_as_at_first(self, frame: Any) -> bool:
        return (frame.sample_rate, frame.layout.nb_channels) == (self.sample_rate, self.channels)

    def _first_start(self) -> int | None:
        """Return when the first samples should be, where that is worth silence if they are late."""
        if self._format not in ("flac", "ogg") or self._stream.start_time is None:
            return None
        start: int = round(self._stream.start_time * self._stream.time_base * self.sample_rate)
        return start

    def _resampled(self, frame: Any) -> Iterator[NDArray[np.float32]]:
        """Yield a frame that is converted, or (None) what is left of those before."""
        if frame is None and self._resampler is None:
            return
        kind = None
        if frame is not None:
            kind = (frame.sample_rate, frame.layout.nb_channels, frame.format.name)
        if self._resampler is not None and kind != self._resampled_kind:
            for last in self._resampler.resample(None):
                yield _samples(last)
            self._resampler = None
        if frame is None:
            return
        if self._resampler is None:
            self._resampled_kind = kind
            self._resampler = self._av.AudioResampler("flt", self._layout, self.sample_rate)
        frame.pts = None
        for part in self._resampler.resample(frame):
            yield _samples(part)

    def _remark_change(self, frame: Any) -> None:
        if self._changed:
            return
        self._changed = True
        seconds = (self._timeline.position - frame.samples) / self.sample_rate
        self.remarks.append(
            f"changes after {max(seconds, 0):.3f} s from {self.sample_rate} Hz and {self.channels} "
            f"channels to {frame.sample_rate} Hz and {frame.layout.nb_channels} channels: all of "
            "it is read as it begins"
        )

    def _silence(self, frames: int) -> Iterator[NDArray[np.float32]]:
        while frames > 0:
            count = min(frames, _BLOCK_FRAMES)
            yield np.zeros((self.channels, count), dtype=np.float32)
            frames -= count

    def _announced_seconds(self) -> float:
        stream = self._stream
        if self._format not in _COUNTED_CONTAINERS:
            return 0.0
        if stream.duration is not None:
            return float(stream.duration * stream.time_base)
        if self._file.duration is None or len(self._file.streams) > 1:
            return 0.0  # of a video's longest track
        return float(self._file.duration / self._av.time_base)

    def _undecodable(self, reason: str) -> AudioFileError:
        self._raw.seek(0)
        head = self._raw.read(16)
        found = f"data that begin with {head!r} (ffmpeg: {reason})"
        advice = "copy or download it again, or export it anew"
        return unreadable(self._path, "audio", found, advice)


class _Source:
    """A file as PyAV reads it, with a position of its own; four bytes may be read as zeros."""

    def __init__(self, path: Path, raw: io.FileIO, *, zeros_at: int | None) -> None:
        # Nothing is opened by this name: it helps to recognise formats that begin with no mark.
        self.name = f"audio{path.suffix}".encode("ascii", "replace").decode()
        self._raw = raw
        self._zeros = range(0) if zeros_at is None else range(zeros_at, zeros_at + 4)
        self._position = 0

    def read(self, count: int) -> bytes:
        self._raw.seek(self._position)
        content = bytearray(self._raw.read(count) or b"")
        for place in self._zeros:
            if 0 <= place - self._position < len(content):
                content[place - self._position] = 0
        self._position += len(content)
        return bytes(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            offset += self._raw.seek(0, io.SEEK_END)
        self._position = max(offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position


def _first(
    blocks: Iterator[NDArray[np.float32]], limit: int
) -> Generator[NDArray[np.float32], None, None]:
    """Yield the first samples of blocks."""
    for block in blocks:
        if limit > 0:
            yield block[:, :limit]
        limit -= block.shape[1]


def _samples(frame: Any) -> NDArray[np.float32]:
    """Return samples of any format as floats, shape (channels, frames)."""
    channels = frame.layout.nb_channels
    kind = _DTYPES[frame.format.packed.name]
    if frame.format.is_planar:
        planes = frame.planes[:channels]
        samples = np.stack([np.frombuffer(plane, kind, frame.samples) for plane in planes])
    else:
        packed = np.frombuffer(frame.planes[0], kind, frame.samples * channels)
        samples = packed.reshape(-1, channels).T
    if samples.dtype.kind == "f":
        return np.array(samples, dtype=np.float32, order="C")
    full_scale = np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
    scaled = samples.astype(np.float32) / full_scale
    return np.ascontiguousarray(scaled - 1 if samples.dtype.kind == "u" else scaled)
