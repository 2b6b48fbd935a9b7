"""Fetch one checkpoint of a published repository from the Hugging Face hub.

Two requests of the hub's public interface are needed: the list of a repository's files with their
digests, and one of the files. No token is sent.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from sfisep_core.errors import CheckpointError
from sfisep_core.foundation.digests import file_sha256
from sfisep_core.pretrained import transfer
from sfisep_core.pretrained.transfer import Progress

VARIABLE = "SFISEP_WEIGHTS_URL"

_FILE = "best_checkpoint"
_HUB = "https://huggingface.co"
_SHA256 = re.compile(r"[0-9a-f]{64}")
# A page has up to 1,000 files.
_MAX_PAGES = 100
_MAX_PAGE_BYTES = 16 * 2**20


@dataclass(frozen=True)
class RemoteFile:
    """A file in a repository.

    Attributes:
        path: Path in the repository.
        size: Bytes.
        sha256: Digest in the hub's listing.
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
        folder: Folder to write to; nothing else may use it.
        progress: Called with bytes done, total bytes, and a label.

    Returns:
        The file, with verified size and digest, and its entry in the listing.

    Raises:
        CheckpointError: The server cannot be reached or does not answer as expected, the repository
            does not contain the file, or its content differs from the listing.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        msg = "no request was made: HF_HUB_OFFLINE is set"
        raise CheckpointError(msg)
    endpoint = _endpoint()
    where = f"{repository} at revision {revision}"
    entry = choose(_list_files(repository, revision, endpoint, folder), seed, where)
    if entry.size > transfer.MAX_BYTES:
        msg = f"{where}: {entry.path} has {entry.size} bytes, expected at most {transfer.MAX_BYTES}"
        raise CheckpointError(msg)
    path = folder / _FILE
    transfer.download(
        f"{endpoint}/{quote(repository)}/resolve/{revision}/{quote(entry.path)}",
        path,
        progress,
        label=PurePosixPath(repository).name,
        most_bytes=entry.size,
        resumable=True,
    )
    # Verify against the listing, not against the headers of the download.
    size, digest = path.stat().st_size, file_sha256(path)
    if (size, digest) != (entry.size, entry.sha256):
        msg = (
            f"{entry.path} of {repository}: the bytes are not those that the listing promises: "
            f"expected {entry.size} bytes with sha256 {entry.sha256}, found {size} with {digest}: "
            "try again; if that does not help, the server or a proxy gives wrong files"
        )
        raise CheckpointError(msg)
    return path, entry


def choose(files: list[RemoteFile], seed: int, where: str) -> RemoteFile:
    """Choose the checkpoint of a seed by the name of its run's folder, which contains settings.

    Args:
        files: All files of the repository.
        seed: Seed of the run.
        where: Repository and revision, for the message.

    Raises:
        CheckpointError: No file or several files match.
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


def _endpoint() -> str:
    address = os.environ.get(VARIABLE) or _HUB
    if not re.match(r"https?://[^/]", address):
        shown = transfer.public_address(address)
        msg = f"{VARIABLE}: expected an address with http:// or https://, got {shown!r}"
        raise CheckpointError(msg)
    return address.rstrip("/")


def _list_files(repository: str, revision: str, endpoint: str, folder: Path) -> list[RemoteFile]:
    """Read the list of a repository's files, page by page."""
    url = f"{endpoint}/api/models/{quote(repository)}/tree/{revision}?recursive=True"
    page = folder / "listing"
    files: list[RemoteFile] = []
    for _ in range(_MAX_PAGES):
        headers = transfer.download(
            url, page, lambda *_: None, label="list of files", most_bytes=_MAX_PAGE_BYTES
        )
        try:
            files += _files_of(json.loads(page.read_bytes()))
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            msg = (
                f"list of its files: {transfer.public_address(endpoint)} does not answer as a hub "
                f"does ({type(error).__name__}): is {VARIABLE} the address of a mirror, or does a "
                "login page answer in its place?"
            )
            raise CheckpointError(msg) from error
        following = re.match(r'\s*<([^>]+)>\s*;\s*rel="?next', headers.get("Link", ""))
        if following is None:
            return files
        parts, own = urlsplit(urljoin(url, following[1])), urlsplit(endpoint)
        if parts.hostname == own.hostname:  # with user and password, if the mirror needs them
            parts = parts._replace(netloc=own.netloc)
        url = parts.geturl()
    msg = f"list of its files: has more than {_MAX_PAGES} pages"
    raise CheckpointError(msg)


def _files_of(entries: Any) -> list[RemoteFile]:
    if not isinstance(entries, list):
        msg = "not a list"
        raise TypeError(msg)
    files = []
    for entry in entries:
        if entry["type"] != "file":
            continue
        lfs = entry.get("lfs") or {}
        # The digest of large files is in their LFS pointer.
        files.append(RemoteFile(str(entry["path"]), int(entry["size"]), str(lfs.get("oid", ""))))
    return files
