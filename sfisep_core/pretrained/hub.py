"""Fetch one checkpoint of a published repository from the Hugging Face hub.

No token is sent, nothing is written to the hub library's own cache, and its telemetry is off.
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sfisep_core.errors import CheckpointError
from sfisep_core.pretrained import transfer
from sfisep_core.pretrained.cache import file_sha256
from sfisep_core.pretrained.transfer import Progress

VARIABLE = "SFISEP_WEIGHTS_URL"

_FILE = "best_checkpoint"
_CHUNK = 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteFile:
    """A file in a repository.

    Attributes:
        path: Inside the repository.
        size: Bytes.
        sha256: Digest that the hub's listing gives.
    """

    path: str
    size: int
    sha256: str


def fetch_checkpoint(
    repository: str, revision: str, seed: int, folder: Path, progress: Progress
) -> tuple[Path, RemoteFile]:
    """Download the checkpoint of one training run.

    Args:
        repository: OWNER/NAME on the hub.
        revision: Commit.
        seed: Seed of the run.
        folder: Where to write; nothing else may use it.
        progress: Called with bytes done, bytes in all, and a label.

    Returns:
        The file, its size and digest checked, and what the listing says about it.

    Raises:
        CheckpointError: The server cannot be reached or does not answer as expected, the
            repository does not hold the file, or its bytes are not those that it lists.
    """
    endpoint = _endpoint()
    with _own_settings():
        found = _find(repository, revision, seed, endpoint)
        path = _download(repository, revision, found, endpoint, folder, progress)
    # The listing says what the bytes must be. What the server says with the file is not asked.
    size, digest = path.stat().st_size, file_sha256(path)
    if (size, digest) != (found.size, found.sha256):
        msg = (
            f"{found.path} of {repository}: the bytes are not those that the listing promises: "
            f"expected {found.size} bytes with sha256 {found.sha256}, found {size} with {digest}: "
            "try again; if that does not help, the server or a proxy gives wrong files"
        )
        raise CheckpointError(msg)
    return path, found


def choose(files: list[RemoteFile], seed: int, where: str) -> RemoteFile:
    """Choose the checkpoint of a seed by the name of its run's folder, which lists settings.

    Args:
        files: All files of the repository.
        seed: Seed of the run.
        where: Repository and revision, for the message.

    Raises:
        CheckpointError: None, or several, can be meant.
    """
    runs = [file for file in files if PurePosixPath(file.path).name == _FILE]
    folders = {file.path: str(PurePosixPath(file.path).parent).lower() for file in runs}
    says_seed = any("seed" in folder for folder in folders.values())
    number = rf"(?<![a-z])seed[^a-z0-9]?{seed}" if says_seed else rf"(?<![\w.]){seed}"
    fits = [file for file in runs if re.search(rf"{number}(?![\d.])", folders[file.path])]
    if len(fits) != 1:
        listed = ", ".join(file.path for file in runs) or "none"
        msg = (
            f"{where}: expected exactly one {_FILE} in a folder whose name gives seed {seed}, "
            f"found {len(fits)}; all files of that name: {listed}"
        )
        raise CheckpointError(msg)
    if not _SHA256.fullmatch(fits[0].sha256):
        msg = f"{where}: the listing gives no sha256 for {fits[0].path}: it cannot be verified"
        raise CheckpointError(msg)
    return fits[0]


def _endpoint() -> str | None:
    address = os.environ.get(VARIABLE)
    if not address:
        return None
    if not re.match(r"https?://[^/]", address):
        msg = f"{VARIABLE}: expected an address with http:// or https://, got {address!r}"
        raise CheckpointError(msg)
    return address.rstrip("/")


def _find(repository: str, revision: str, seed: int, endpoint: str | None) -> RemoteFile:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    try:
        # The library itself tries again here.
        entries = list(
            HfApi(endpoint=endpoint, token=False).list_repo_tree(
                repository, revision=revision, recursive=True
            )
        )
        files = [
            RemoteFile(str(entry.path), int(entry.size), entry.lfs.sha256 if entry.lfs else "")
            for entry in entries
            if isinstance(entry, RepoFile)
        ]
    except Exception as error:
        raise _explained(error, "list of its files", endpoint) from error
    return choose(files, seed, f"{repository} at revision {revision}")


def _download(
    repository: str,
    revision: str,
    file: RemoteFile,
    endpoint: str | None,
    folder: Path,
    progress: Progress,
) -> Path:
    from huggingface_hub import hf_hub_download

    counter = transfer.ByteCounter(progress, PurePosixPath(repository).name)
    counter.total = file.size

    def download() -> str:
        counter.reset()
        return hf_hub_download(
            repository,
            file.path,
            revision=revision,
            endpoint=endpoint,
            token=False,
            local_dir=folder / "hub",
            cache_dir=folder / "unused",
            tqdm_class=_bar_class(counter),
        )

    try:
        # The library itself goes on after a cut or a stall; an error of the server ends it.
        return Path(transfer.persist(download, lasting=_is_lasting))
    except TypeError:
        raise  # a library of another version than this is written for: no server's fault
    except Exception as error:
        raise _explained(error, file.path, endpoint) from error


def _bar_class(counter: transfer.ByteCounter) -> type[Any]:
    class Bar:
        """What the library takes for a tqdm progress bar."""

        def __init__(self, **_: object) -> None:
            pass

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, number: int) -> None:
            counter.update(number)

    return Bar


def _is_lasting(error: Exception) -> bool:
    status = transfer.status_of(error)
    if status is not None:
        return transfer.is_status_lasting(status)
    return "Consistency check failed" not in str(error)


def _explained(error: Exception, what: str, endpoint: str | None) -> CheckpointError:
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        return _explained(error.__cause__, what, endpoint)
    server = endpoint or "the Hugging Face hub"
    status = transfer.status_of(error)
    if isinstance(error, OfflineModeIsEnabled):
        reason = "no request was made: HF_HUB_OFFLINE is set"
    elif status is not None:
        reason = transfer.describe_status(status, server)
    elif "Consistency check failed" in str(error):
        reason = f"{server} sends files that are shorter or longer than it says"
    elif isinstance(error, ValueError | KeyError | TypeError | AttributeError | LookupError) or (
        type(error).__name__ in ("FileMetadataError", "DecodingError")
    ):
        reason = (
            f"{server} does not answer as a hub does ({type(error).__name__}): is {VARIABLE} the "
            "address of a mirror, or does a login page answer in its place?"
        )
    else:
        reason = transfer.describe_connection(error, server)
    return CheckpointError(f"{what}: {reason}")


class _Forward(logging.Handler):
    """Show what the library logs about its own retries as our own news."""

    def emit(self, record: logging.LogRecord) -> None:
        line = (record.getMessage().splitlines() or [""])[-1]
        if line.startswith(("Retrying", "Trying", "Rate limited")):  # the others name addresses
            _logger.info("%s", line)


@contextmanager
def _own_settings() -> Iterator[None]:
    """Let the hub library keep to time limits and to itself while the block runs."""
    from huggingface_hub import constants, set_client_factory
    from huggingface_hub.utils import _http

    before = _http._GLOBAL_CLIENT_FACTORY

    def limit(request: Any) -> None:
        # Listings have no time limit of their own, and other requests one of a minute.
        limits = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {
            kind: min(limits.get(kind) or transfer.TIMEOUT, transfer.TIMEOUT)
            for kind in ("connect", "read", "write", "pool")
        }

    def limited() -> Any:
        client = before()
        hooks = client.event_hooks
        client.event_hooks = {**hooks, "request": [*hooks["request"], limit]}
        return client

    log = logging.getLogger("huggingface_hub")
    handlers, propagate, forward = list(log.handlers), log.propagate, _Forward(logging.WARNING)
    ours = {
        "HF_HUB_DISABLE_TELEMETRY": True,
        # The library's own protocol for large files keeps a cache of its own in the user's home.
        "HF_HUB_DISABLE_XET": True,
        # What is written at once, and not lost when the connection is cut: 10 MB otherwise.
        "DOWNLOAD_CHUNK_SIZE": _CHUNK,
    }
    theirs = {name: getattr(constants, name) for name in ours}
    try:
        for name, value in ours.items():
            setattr(constants, name, value)
        set_client_factory(limited)
        log.handlers[:], log.propagate = [forward], False
        yield
    finally:
        log.handlers[:], log.propagate = handlers, propagate
        set_client_factory(before)
        for name, value in theirs.items():
            setattr(constants, name, value)
