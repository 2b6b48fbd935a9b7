"""Write stem files for DJ programs: one MP4 with the mixture and four stems as its tracks.

Source: Native Instruments, Stems file format: five audio tracks of which the first is the mixture
and alone enabled, and a box `stem` of JSON in the user data of the film. PyAV writes the tracks;
the box is put in afterwards, because ffmpeg knows no such box.
"""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sfisep_core.audio.file_writer import disk_errors
from sfisep_core.audio.formats import BITS, Encoding, check_output_format
from sfisep_core.audio.tag_writer import write_tags
from sfisep_core.audio.tags import NO_TAGS, Tags
from sfisep_core.errors import AudioFileError
from sfisep_core.foundation.atomic import remove_left_overs, temporary_beside

MIXTURE = "mixture"

# ALAC's own number of samples in a frame.
_FRAME = 4096
_COLORS = ("#009E73", "#D55E00", "#CC79A7", "#56B4E9")
# What players do to the sum of the stems: nothing, so that it stays the mixture.
_MASTERING = {
    "compressor": {
        "enabled": False,
        "ratio": 3,
        "input_gain": 0.5,
        "output_gain": 0.5,
        "threshold": 0,
        "attack": 0.003,
        "release": 0.3,
        "hp_cutoff": 300,
        "dry_wet": 50,
    },
    "limiter": {"enabled": False, "threshold": 0, "ceiling": -0.35, "release": 0.05},
}


class StemFileWriter:
    """Write a stem file in blocks, without loss (ALAC).

    As with `AudioWriter` the file has a temporary name until it is complete.
    """

    def __init__(
        self,
        path: Path,
        *,
        stems: Sequence[str],
        sample_rate: int,
        channels: int,
        encoding: Encoding | None = None,
        tags: Tags = NO_TAGS,
    ) -> None:
        """Check the format; nothing is written yet.

        Args:
            path: File to write, .stem.mp4, in a folder that exists; replaced if it exists.
            stems: Names of the four stems, in the order of the tracks behind the mixture.
            sample_rate: In Hz.
            channels: 1 or 2.
            encoding: "int16" (None) or "int24".
            tags: Tags of the recording.

        Raises:
            ConfigError: If the format cannot hold such audio.
        """
        check_output_format("stem.mp4", encoding, channels, sample_rate)
        self.path, self.temporary = path, temporary_beside(path)
        self._names, self._tags = (MIXTURE, *stems), tags
        self._rate, self._layout = sample_rate, "mono" if channels == 1 else "stereo"
        self._bits = BITS[encoding or "int16"]
        self._written = 0
        # Samples that fill no frame yet, shape (track, channel, time).
        self._rest = np.zeros((len(self._names), channels, 0), dtype=np.float32)

    def __enter__(self) -> Self:
        """Open the temporary file.

        Raises:
            AudioFileError: If no file can be made there.
        """
        import av

        with contextlib.ExitStack() as stack, self._errors():
            remove_left_overs(self.path.parent)
            # On success it has been renamed before this runs.
            stack.callback(self.temporary.unlink, missing_ok=True)
            self._file: Any = stack.enter_context(av.open(str(self.temporary), "w", format="mp4"))
            self._streams = [self._stream(name) for name in self._names]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the file unless it has been put in place."""
        # An error within the block is the cause of what goes wrong while the file is closed.
        ignored = () if error[0] is None else (AudioFileError,)
        with contextlib.suppress(*ignored), self._errors():
            self._stack.close()

    def write(self, block: NDArray[np.float32]) -> None:
        """Append samples.

        Args:
            block: Shape (track, channel, time): the mixture, then the stems.

        Raises:
            AudioFileError: If the disk is full.
        """
        samples = np.concatenate([self._rest, block], axis=-1)
        whole = samples.shape[-1] // _FRAME * _FRAME
        with self._errors():
            for start in range(0, whole, _FRAME):
                self._encode(samples[..., start : start + _FRAME])
        self._rest = samples[..., whole:]

    def finish(self) -> None:
        """Complete the file under its temporary name; nothing can be written afterwards.

        Raises:
            AudioFileError: If not all of it could be written.
        """
        with self._errors():
            if not self._written and not self._rest.size:  # a track without samples is none
                self._rest = np.zeros((*self._rest.shape[:2], 1), dtype=np.float32)
            if self._rest.size:
                self._encode(self._rest)
            for stream in self._streams:
                self._file.mux(stream.encode(None))
            self._file.close()
            if self._tags != NO_TAGS:
                write_tags(self.temporary, self._tags)
            _add_stem_box(self.temporary, self._names[1:])

    def _stream(self, name: str) -> Any:
        from av.stream import Disposition

        stream: Any = self._file.add_stream(
            "alac",
            rate=self._rate,
            layout=self._layout,
            format="s16p" if self._bits == 16 else "s32p",
        )
        # Players and ffprobe show either.
        stream.metadata["title"] = stream.metadata["handler_name"] = name
        if name != MIXTURE:
            stream.disposition = Disposition(0)
        return stream

    def _encode(self, samples: NDArray[np.float32]) -> None:
        """Encode one frame of every track, shape (track, channel, time)."""
        import av

        scale = 1 << (self._bits - 1)
        steps = np.minimum(np.rint(np.clip(samples, -1, 1) * scale), scale - 1).astype(np.int32)
        # ffmpeg takes the upper 24 bits.
        values = steps.astype(np.int16) if self._bits == 16 else steps << 8
        kind = "s16p" if self._bits == 16 else "s32p"
        for stream, track in zip(self._streams, values, strict=True):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(track), format=kind, layout=self._layout
            )
            frame.sample_rate, frame.pts = self._rate, self._written
            self._file.mux(stream.encode(frame))
        self._written += samples.shape[-1]

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Convert errors of ffmpeg and of the disk to an error that names the file."""
        from av.error import FFmpegError

        with disk_errors(self.path):
            try:
                yield
            except FFmpegError as error:
                raise OSError(error.errno, error.strerror) from error


def _add_stem_box(path: Path, stems: Sequence[str]) -> None:
    """Put the box by which players know a stem file into its user data.

    Args:
        path: MP4 whose index (`moov`) is at its end, so that no sample is moved.
        stems: Names of the stems.
    """
    described = [{"name": n, "color": c} for n, c in zip(stems, _COLORS, strict=True)]
    content = json.dumps({"mastering_dsp": _MASTERING, "version": 1, "stems": described})
    box = _box(b"stem", content.encode())
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        start = 0
        while start < size:
            file.seek(start)
            header = file.read(16)
            length, kind = int.from_bytes(header[:4], "big"), header[4:8]
            length = int.from_bytes(header[8:], "big") if length == 1 else length
            if kind == b"moov":
                break
            start += length
        if start + length != size:
            raise OSError(errno.EIO, "an MP4 without an index at its end")
        file.seek(start)
        moov = file.read(size - start)
        file.seek(start)
        file.write(_box(b"moov", _with_child(moov[8:], box)))


def _with_child(content: bytes, box: bytes) -> bytes:
    """Return the content of `moov` with a box in its user data, which is made if it has none."""
    start = 0
    while start < len(content):
        end = start + int.from_bytes(content[start : start + 4], "big")
        if content[start + 4 : start + 8] == b"udta":
            user_data = _box(b"udta", content[start + 8 : end] + box)
            return content[:start] + user_data + content[end:]
        start = end
    return content + _box(b"udta", box)


def _box(kind: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + kind + content
