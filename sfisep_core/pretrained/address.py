"""Fetch a model file from a plain address."""

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from sfisep_core.errors import CheckpointError
from sfisep_core.foundation.digests import file_sha256
from sfisep_core.pretrained import transfer
from sfisep_core.pretrained.transfer import Progress


def is_address(name: str) -> bool:
    """Tell whether a model's name is an address of any kind: SCHEME://..."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name) is not None


def address_key(url: str) -> str:
    """Return the file name of an address: the end of its path, and a digest without its user.

    Raises:
        CheckpointError: Not an http:// or https:// address.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme.lower() in ("http", "https") and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        msg = (
            f"address {transfer.public_address(url)}: expected http://HOST/... or https://HOST/..."
        )
        raise CheckpointError(msg)
    stem = parts.path.rpartition("/")[2].removesuffix(".safetensors")
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", stem)[:60].strip("-") or "model"
    nameless = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    digest = hashlib.sha256(nameless.encode(errors="surrogatepass")).hexdigest()
    return f"{readable}-{digest[:16]}"


def member_names(name: str) -> tuple[str, ...]:
    """Return the models that a name stands for: those of A+B, whose stems are averaged.

    Args:
        name: See `model_path`. A file, a folder or an address with a "+" is one model.
    """
    if "+" not in name or is_address(name) or os.path.exists(name):
        return (name,)
    return tuple(name.split("+"))


def shown_name(name: str) -> str:
    """Return a model's name for display and storage: an address without its secrets."""
    return transfer.public_address(name) if is_address(name) else name


def folder_name(name: str) -> str:
    """Return the name of the folder for stems of a model.

    Args:
        name: See `model_path`. A file is named after its folder and itself, because the best model
            of every training run has the same name.

    Returns:
        One component of a path, not empty and not "." or "..".

    Raises:
        CheckpointError: An address of another kind than http:// and https://.
    """
    if is_address(name):
        return address_key(name)
    members = member_names(name)
    if len(members) > 1:
        return "+".join(map(folder_name, members))
    path = Path(name)
    last = path.name.removesuffix(".safetensors")
    if last in ("", ".", ".."):
        return "model"
    if name == last:  # a name, not a path
        return last
    folder = Path(os.path.abspath(path)).parent.name
    return f"{folder}-{last}" if folder else last


def fetch_address(url: str, sha256: str | None, path: Path, progress: Progress) -> str:
    """Download a file.

    Args:
        url: Its address.
        sha256: The expected digest in lower case; None accepts any.
        path: File to write.
        progress: Called with bytes done, total bytes, and a label.

    Returns:
        Its sha256.

    Raises:
        CheckpointError: As `transfer.download`, or the digest differs.
    """
    shown = transfer.public_address(url)
    label = urlsplit(shown).path.rpartition("/")[2] or shown
    transfer.download(url, path, progress, label=label, resumable=sha256 is not None)
    digest = file_sha256(path)
    if sha256 is not None and digest != sha256:
        msg = (
            f"{shown}: expected sha256 {sha256}, found {digest} ({path.stat().st_size} bytes): the "
            "file there is another one, or was damaged on the way: try again, or correct the sha256"
        )
        raise CheckpointError(msg)
    return digest
