"""Handling of standard output and standard error that are closed, full, or not UTF-8."""

import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sfisep_cli.exit_codes import ExitCode
from sfisep_core.errors import AudioFileError

# Surrogates by which Python represents bytes of file names that are not UTF-8.
_UNDECODED = re.compile("[\udc80-\udcff]")
# JSON does not ask for escapes of these, but a terminal does what they say, and other surrogates
# cannot be written.
_NOT_FOR_TERMINALS = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class _OutputError(Exception):
    """Standard output cannot be written. Not an OSError, so that it is not confused with others."""


class _Output:
    """Standard output, whose errors are distinguishable from those of other files."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text."""
        return int(self._call("write", text))

    def flush(self) -> None:
        """Flush the buffer."""
        if self._stream is not None:
            self._call("flush")

    def _call(self, name: str, *arguments: Any) -> Any:
        if self._stream is None:
            msg = "a closed stream"
            raise _OutputError(msg)
        try:
            return getattr(self._stream, name)(*arguments)
        except OSError as error:
            raise _OutputError(error.strerror or str(error)) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Error:
    """Standard error, which is silently dropped if it cannot be written, so that work continues."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text."""
        try:
            return int(self._stream.write(text))
        except OSError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        """Flush the buffer."""
        try:
            self._stream.flush()
        except OSError:
            self._drop()

    def _drop(self) -> None:
        # The rest of its buffer would fail again at exit, in `sys.stderr`.
        self._stream = open(  # noqa: SIM115  # until the end
            os.devnull, "w", encoding="utf-8", errors="backslashreplace"
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lenient_standard_error() -> Iterator[None]:
    """Ignore errors of writing to standard error within the block."""
    before = sys.stderr
    if before is None:  # closed: Python and Rich do not write to it
        yield
        return
    guard = sys.stderr = _Error(before)
    try:
        yield
    finally:
        guard.flush()
        sys.stderr = guard._stream


@contextmanager
def told_standard_output() -> Iterator[None]:
    """Convert errors of standard output, such as a full disk, to an error message.

    Raises:
        AudioFileError: Standard output cannot be written.
        SystemExit: Its reader has closed the pipe.
    """
    before = sys.stdout
    guard = sys.stdout = _Output(before)
    try:
        try:
            yield
        finally:
            guard.flush()
        sys.stdout = before
    except _OutputError as error:
        # Python would try again at exit to write the rest.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # until the end
        if isinstance(error.__cause__, BrokenPipeError):  # `| head` has closed the pipe
            raise SystemExit(ExitCode.FAILED) from None
        msg = (
            f"standard output: expected it to take the result, got {error}: make room, or write "
            "elsewhere"
        )
        raise AudioFileError(msg) from error
    except BaseException:
        sys.stdout = before
        raise


def show_facts(facts: object) -> None:
    """Write facts, of plain values, as JSON; see `show_json`."""
    show_json(json.dumps(facts, indent=2, ensure_ascii=False))


def show_json(text: str) -> None:
    r"""Write JSON to standard output in UTF-8, independent of the terminal's encoding.

    Bytes of file names that are not UTF-8 are written as `\xNN`, as Python does with
    `backslashreplace`.

    Args:
        text: One JSON value, which is not escaped to ASCII.
    """
    # JSON escapes a backslash as two.
    valid = _UNDECODED.sub(lambda match: rf"\\x{ord(match[0]) - 0xDC00:02x}", text) + "\n"
    valid = _NOT_FOR_TERMINALS.sub(lambda match: rf"\u{ord(match[0]):04x}", valid)
    stream: Any = sys.stdout
    raw = getattr(stream, "buffer", None)
    if raw is None:
        stream.write(valid)
        return
    stream.flush()
    try:
        raw.write(valid.encode())
        raw.flush()
    except OSError as error:
        raise _OutputError(error.strerror or str(error)) from error


def write_to_stdout(path: Path) -> None:
    """Copy a file to standard output.

    Raises:
        AudioFileError: Standard output cannot be written.
    """
    try:
        stream = getattr(sys.stdout, "buffer", None)
        if stream is None:
            raise OSError(errno.EBADF, "it is closed")
        with path.open("rb") as file:
            shutil.copyfileobj(file, stream)
        stream.flush()
    except OSError as error:
        msg = (
            f"standard output: expected it to take a stem, got {error.strerror}: name a folder "
            "with --out instead"
        )
        raise AudioFileError(msg) from error


class RawInput:
    """Standard input as bytes, each as soon as it comes."""

    def __init__(self) -> None:
        if sys.stdin is None:
            msg = "standard input: expected samples, found none: it is closed: pipe samples in"
            raise AudioFileError(msg)
        # Not the buffer, in which a thread may still wait when Python ends.
        self._stream: Any = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)

    def read(self, size: int) -> bytes | None:
        """Return the bytes that are there, at least one; none at the end."""
        data: bytes | None = self._stream.read(size)
        return data


class _RawOutput:
    """Standard output for bytes, each at once."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, data: memoryview) -> int | None:
        """Write bytes, and return how many were taken."""
        try:
            taken: int | None = self._stream.write(data)
        except OSError as error:
            self.error = error
            raise
        return taken


@contextmanager
def raw_output() -> Iterator[_RawOutput]:
    """Yield standard output for bytes, whose errors are told as those of its text are."""
    buffer: Any = getattr(sys.stdout, "buffer", None) if sys.stdout is not None else None
    if buffer is None:
        msg = "a closed stream"
        raise _OutputError(msg)
    # Not the buffer, in which a thread may still wait when Python ends.
    output = _RawOutput(getattr(buffer, "raw", buffer))
    try:
        yield output
    except OSError as error:
        if error is not output.error:
            raise
        raise _OutputError(error.strerror or str(error)) from error
