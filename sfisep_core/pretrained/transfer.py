"""Download a file over HTTP with limits of size and time, and explain errors."""

import errno
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from sfisep_core.errors import CheckpointError
from sfisep_core.foundation.exit_signals import raise_received

Progress = Callable[[float, float, str], None]
"""Called with bytes done, total bytes, and a label."""

TIMEOUT = 15.0
"""Seconds without a byte after which a server counts as stalled."""

LONGEST = 3600.0
"""Maximum duration of a download in seconds."""

MAX_BYTES = 2 * 2**30
"""Maximum size of a model file in bytes."""

ATTEMPTS = 4
_CHUNK = 2**18
# Errors of addresses, by their names in requests and urllib3.
_INVALID = {"InvalidURL", "InvalidSchema", "MissingSchema", "LocationParseError"}

_logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")


class LoggedProgress:
    """Logs the progress of a download, for callers that do not show it."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, done: float, total: float, label: str) -> None:
        """Log the first call, and then every fifth of the total."""
        fifths = int(5 * done / total) if total else 0
        if fifths >= self._next:
            _logger.info("%s: %.1f of %.1f MB", label, done / 1e6, total / 1e6)
            self._next = fifths + 1


def public_address(url: str) -> str:
    """Return an address for display and storage: without user, password and tokens.

    Args:
        url: An address; what cannot be parsed as one is returned without its query.

    Returns:
        The address with the values of its query replaced by ***.
    """
    try:
        parts = urlsplit(url)
        query = urlencode([(name, "***") for name, _ in parse_qsl(parts.query)], safe="*")
    except ValueError:
        return url.partition("?")[0].rpartition("@")[2]
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query=query, fragment="").geturl()


def download(
    url: str,
    path: Path,
    progress: Progress,
    *,
    label: str,
    most_bytes: int = MAX_BYTES,
    resumable: bool = False,
) -> Mapping[str, str]:
    """Download a file; retry after temporary errors.

    Args:
        url: Its address.
        path: File to write.
        progress: Called with bytes done, total bytes, and `label`.
        label: Name to show.
        most_bytes: Maximum size, announced or actual.
        resumable: Whether an attempt resumes where the last one ended. Only for content whose
            digest is verified afterwards, since the file on the server may have changed.

    Returns:
        The headers of the last response.

    Raises:
        CheckpointError: The server cannot be reached or refuses, the file is too large, the
            download takes too long, or `path` cannot be written.
    """
    try:
        with path.open("wb") as file:
            target = _Target(file, url, progress, label, most_bytes)
            persist(lambda: _attempt(url, target, resumable=resumable), lasting=_is_lasting)
            return target.headers
    except CheckpointError:
        raise
    except Exception as error:  # whatever the libraries beneath raise
        raise_received()
        status = status_of(error)
        shown = public_address(url)
        explained = (
            describe_connection(error, shown) if status is None else describe_status(status, shown)
        )
        # Not chained: the errors of the libraries contain the complete address.
        raise CheckpointError(explained) from None


def _attempt(url: str, target: "_Target", *, resumable: bool) -> None:
    from pooch import HTTPDownloader

    target.start(keep=resumable)
    # Compressed content could unpack to any size.
    headers = {"Accept-Encoding": "identity"}
    if target.size:
        headers["Range"] = f"bytes={target.size}-"
    downloader = HTTPDownloader(
        chunk_size=_CHUNK, timeout=TIMEOUT, headers=headers, hooks={"response": target.answered}
    )
    try:
        downloader(url, target, None)
    finally:
        target.close_responses()


class _Target:
    """A file to download to, with limits of size and time."""

    def __init__(
        self, file: BinaryIO, url: str, progress: Progress, label: str, most_bytes: int
    ) -> None:
        self._file = file
        self._shown = public_address(url)
        self._progress = progress
        self._label = label
        self._most = most_bytes
        self._end = time.monotonic() + LONGEST
        self._responses: list[Any] = []  # the library does not close them after errors
        self._total = 0
        self.size = 0
        self.headers: Mapping[str, str] = {}

    def start(self, *, keep: bool) -> None:
        """Start an attempt; `keep` existing content."""
        if not keep:
            self._empty()

    def answered(self, response: Any, *_: object, **__: object) -> None:
        """Check the headers of a response before its body is read."""
        self._responses.append(response)
        if response.status_code not in (200, 206):
            return
        if response.status_code == 200:
            self._empty()
        self.headers = response.headers
        if (encoding := response.headers.get("Content-Encoding", "identity")) != "identity":
            msg = (
                f"{self._shown} answers with packed content ({encoding[:40]!r}), which was not "
                "asked for and could unpack to any size"
            )
            raise CheckpointError(msg)
        announced = response.headers.get("Content-Length", "0")
        length = int(announced) if announced.isdecimal() and len(announced) < 20 else self._most + 1
        self._total = self.size + length
        self._check(self._total)

    def write(self, block: bytes) -> None:
        """Write a block."""
        self.size += len(block)
        self._check(self.size)
        self._file.write(block)
        self._progress(self.size, max(self._total, self.size), self._label)

    def flush(self) -> None:
        """Flush buffers to the file."""

    def close_responses(self) -> None:
        """Close the connections of an attempt."""
        while self._responses:
            self._responses.pop().close()

    def _empty(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self.size = 0

    def _check(self, size: int) -> None:
        if size > self._most:
            msg = f"{self._shown} sends more than {self._most} bytes, which no model file has"
            raise CheckpointError(msg)
        if time.monotonic() > self._end:
            msg = f"{self._shown} is too slow: {self.size} bytes came in {LONGEST:.0f} s"
            raise CheckpointError(msg)


def persist(action: Callable[[], _Result], *, lasting: Callable[[Exception], bool]) -> _Result:
    """Retry an action after temporary errors, after 1, 2 and 4 s.

    Args:
        action: The action.
        lasting: Tells whether an error is permanent.

    Raises:
        Exception: The last exception of `action`.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return action()
        except CheckpointError:
            raise
        except Exception as error:
            raise_received()
            if lasting(error):
                raise
            _logger.info("download failed (%s): trying again", type(error).__name__)
            time.sleep(2.0 ** (attempt - 1))
    return action()


def _is_lasting(error: Exception) -> bool:
    status = status_of(error)
    if status is not None:
        return is_status_lasting(status)
    return isinstance(error, ValueError) or is_of_disk(error)


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of a library's error; None for other errors."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def is_of_disk(error: BaseException) -> bool:
    """Tell whether an error is one of a file, not of a connection."""
    return isinstance(error, OSError) and (
        error.filename is not None or error.errno in (errno.ENOSPC, errno.EDQUOT)
    )


def is_status_lasting(status: int) -> bool:
    """Tell whether an HTTP status is permanent."""
    return status < 500 and status not in (408, 429)


def describe_status(status: int, address: str) -> str:
    """Explain an HTTP error in words."""
    if status in (401, 403):
        meaning = "it denies access, or a firewall or proxy does in its place"
    elif status == 404:
        meaning = "nothing is there, or no longer"
    elif status == 429:
        meaning = "it is asked too often"
    elif status >= 500:
        meaning = "it is in trouble"
    else:
        meaning = "it refuses the request"
    later = "" if is_status_lasting(status) else "; try again later"
    return f"{address} answers with status {status}: {meaning}{later}"


def describe_connection(error: BaseException, address: str) -> str:
    """Explain in words why there was no or only a partial answer.

    Errors are compared by name, not by type, because the libraries change their dependencies.
    """
    # requests and urllib3 wrap what the system said in their own words.
    reason = str(getattr(error.args[0], "reason", error) if error.args else error)
    # The text may contain the complete address.
    text = "" if "://" in reason or "?" in reason else reason
    detail = (text.splitlines() or [""])[0][:200] or type(error).__name__
    if any("Timeout" in kind.__name__ for kind in type(error).__mro__) or "timed out" in detail:
        return f"{address} stalls: nothing came for {TIMEOUT:g} s"
    if is_of_disk(error):
        return f"what comes from {address} cannot be written: {detail}"
    if any(kind.__name__ in _INVALID for kind in type(error).__mro__):
        return (
            f"{address}, or the address to which it leads, is none of http:// or https:// "
            f"({type(error).__name__})"
        )
    return (
        f"no connection to {address}, or it was cut ({detail}): this machine seems to be offline, "
        "or a firewall or proxy is in the way"
    )
