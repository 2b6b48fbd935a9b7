"""Fetch a model file from a plain address."""

import hashlib
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sfisep_core.errors import CheckpointError
from sfisep_core.pretrained import transfer
from sfisep_core.pretrained.cache import file_sha256
from sfisep_core.pretrained.transfer import Progress

_CHUNK = 2**18


def is_address(name: str) -> bool:
    """Tell whether a model's name is an address of whatever kind: SCHEME://..."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name) is not None


def address_key(url: str) -> str:
    """Give an address's name for files: what it ends with, and a digest of all of it.

    Raises:
        CheckpointError: Not an address of the web.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme.lower() in ("http", "https") and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        msg = f"address {url}: expected http://HOST/... or https://HOST/..."
        raise CheckpointError(msg)
    stem = parts.path.rpartition("/")[2].removesuffix(".safetensors")
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", stem)[:60].strip("-") or "model"
    return f"{readable}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"


def fetch_address(url: str, sha256: str | None, path: Path, progress: Progress) -> str:
    """Download a file.

    Args:
        url: Its address.
        sha256: The digest that it must have, in lower case; None takes any.
        path: File to write.
        progress: Called with bytes done, bytes in all, and a label.

    Returns:
        Its sha256.

    Raises:
        CheckpointError: The server cannot be reached or refuses, or the digest differs.
    """
    from pooch import HTTPDownloader

    counter = transfer.ByteCounter(progress, urlsplit(url).path.rpartition("/")[2] or url)
    responses: list[Any] = []  # the library leaves them open after errors
    downloader = HTTPDownloader(
        progressbar=counter,
        chunk_size=_CHUNK,
        timeout=transfer.TIMEOUT,
        hooks={"response": lambda response, *_, **__: responses.append(response)},
    )

    def download() -> None:
        counter.reset()
        downloader(url, str(path), None)

    try:
        transfer.persist(download, lasting=_is_lasting)
    except Exception as error:  # whatever the library beneath raises
        status = transfer.status_of(error)
        if status is not None:
            raise CheckpointError(transfer.describe_status(status, url)) from error
        raise CheckpointError(transfer.describe_connection(error, url)) from error
    finally:
        for response in responses:
            response.close()
    digest = file_sha256(path)
    if sha256 is not None and digest != sha256:
        msg = (
            f"{url}: expected sha256 {sha256}, found {digest} ({path.stat().st_size} bytes): the "
            "file there is another one, or was damaged on the way"
        )
        raise CheckpointError(msg)
    return digest


def _is_lasting(error: Exception) -> bool:
    status = transfer.status_of(error)
    if status is not None:
        return transfer.is_status_lasting(status)
    return isinstance(error, ValueError) or transfer.is_of_disk(error)
