"""Decode what soundfile cannot read with the program ffmpeg, into a file that has no name."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

# Formats that hold the samples themselves. Playlists, scripts and other formats that name further
# files stay out, whatever suffix they bear. ffmpeg passes over names that it does not know.
_DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,latm,loas,matroska,mlp,"
    "mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nut,oga,ogg,oma,rm,shn,tak,truehd,tta,voc,w64,wav,wtv,wv,xwma"
)
_MESSAGE_BYTES = 4096
_SHOWN_CHARACTERS = 160
_COPY_BYTES = 1 << 20

# Lines that ffmpeg writes at the level "info".
_INPUT = re.compile(r"\[info\] Input #0, (.+?), from ")
_STREAM = re.compile(r"\[info\]   Stream #0:\S+ -> #0:0 \((\w+)")
_ERROR = re.compile(r"(?:\[[^]]* @ \w+\] )?\[(?:error|fatal|panic)\] (.*)")


@dataclass
class Decoding:
    """What ffmpeg made of a file.

    Attributes:
        samples: An AU file of 32-bit floats, which is gone when it is closed.
        name: How ffmpeg's messages name the source; left out of `errors`.
        containers: ffmpeg's names of the format, several where it has several; none where it does
            not know the format.
        codec: ffmpeg's name of the codec; empty where no audio was found.
        failed: Whether ffmpeg gave up.
        errors: Its last error messages, two at most; none if all went well.
    """

    samples: io.FileIO
    name: str = ""
    containers: list[str] = field(default_factory=list)
    codec: str = ""
    failed: bool = False
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=2))

    def listen(self, messages: IO[bytes]) -> None:
        """Take from ffmpeg's messages what is of use, line by line up to the end."""
        for line in iter(lambda: messages.readline(_MESSAGE_BYTES), b""):
            text = line.decode("utf-8", "backslashreplace").rstrip()
            if not self.containers and (match := _INPUT.match(text)):
                self.containers = match[1].split(",")
            elif not self.codec and (match := _STREAM.match(text)):
                self.codec = match[1]
            elif match := _ERROR.match(text):
                message = match[1].removeprefix(f"{self.name}: ")
                self.errors.append(message[:_SHOWN_CHARACTERS])

    def is_empty(self) -> bool:
        """Return whether there is no sample."""
        size = self.samples.seek(0, io.SEEK_END)
        self.samples.seek(4)  # here an AU file says where its samples begin
        return size <= int.from_bytes(self.samples.read(4), "big")


class TemporarySpaceError(Exception):
    """The decoded samples do not fit into the folder for temporary files."""

    def __init__(self, cause: OSError) -> None:
        """Say which folder, and why.

        Args:
            cause: What went wrong.
        """
        folder = tempfile.tempdir or "(none found)"
        super().__init__(f"{cause.strerror or cause} in the temporary folder {folder!r}")


def find_ffmpeg() -> str | None:
    """Return the path of the program ffmpeg; None if it is not installed."""
    return shutil.which("ffmpeg")


def decode(program: str, path: Path) -> Decoding:
    """Decode the first audio track of a file that is not trusted.

    Memory does not depend on the length: the samples go to a file without a name, which takes 4
    bytes per sample in the folder for temporary files (TMPDIR) and is gone when it is closed or
    this process ends in any way. ffmpeg opens no other file than this one and no network.

    Args:
        program: Path of ffmpeg.
        path: The file.

    Returns:
        The samples, and what ffmpeg says. The caller closes the samples.

    Raises:
        TemporarySpaceError: The samples do not fit.
        OSError: ffmpeg cannot be started.
    """
    # The prefix keeps a name that begins with - or with the name of a protocol a plain name.
    name = b"file:" + os.fsencode(path)
    # Through a pipe: ffmpeg then ends with this process, and a full disk is noticed here.
    command: list[str | bytes] = [program, "-nostdin", "-hide_banner", "-nostats"]
    command += ["-loglevel", "level+info", "-protocol_whitelist", "file"]
    command += ["-format_whitelist", _DEMUXERS, "-i", name]
    # AU, because its length may stay unknown and has no limit, and libsndfile reads it.
    command += ["-map", "0:a:0", "-map_metadata", "-1", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    with ExitStack() as stack:
        try:
            samples = stack.enter_context(tempfile.TemporaryFile(buffering=0))
        except OSError as error:
            raise TemporarySpaceError(error) from error
        decoding = Decoding(samples, name.decode("utf-8", "backslashreplace"))
        process = subprocess.Popen(  # noqa: S603  # no shell, and the name is guarded above
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        stack.callback(_end, process)
        assert process.stdout is not None
        assert process.stderr is not None
        listener = threading.Thread(target=decoding.listen, args=(process.stderr,), daemon=True)
        listener.start()
        try:
            while block := process.stdout.read(_COPY_BYTES):
                _write_all(samples, block)
        except OSError as error:
            raise TemporarySpaceError(error) from error
        decoding.failed = process.wait() != 0
        listener.join()
        stack.pop_all()
        _end(process)
    return decoding


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # nothing happens if it has ended
    with process:
        pass


def _write_all(file: IO[bytes], block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[file.write(view) :]
