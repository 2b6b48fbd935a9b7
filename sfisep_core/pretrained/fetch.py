"""Resolve a model's name or address to its file, which is downloaded once."""

import logging
import re
from pathlib import Path

from sfisep_core.errors import CheckpointError, ConfigError, UnknownModelError
from sfisep_core.foundation.digests import file_sha256
from sfisep_core.pretrained.address import address_key, fetch_address, is_address, shown_name
from sfisep_core.pretrained.archives import ARCHIVES, PublishedWeights
from sfisep_core.pretrained.cache import (
    CachedModel,
    cached_model,
    cached_models,
    keep,
    locked,
)
from sfisep_core.pretrained.description import check_parts, read_description
from sfisep_core.pretrained.file_kinds import model_file_kind
from sfisep_core.pretrained.hub import fetch_checkpoint
from sfisep_core.pretrained.registry import BUNDLED, BUNDLED_SHA256, RELEASED, ReleasedWeights
from sfisep_core.pretrained.transfer import LoggedProgress, Progress, public_address

_logger = logging.getLogger(__name__)


def find_downloadable(name: str) -> CachedModel:
    """Return the paths of a downloadable model, which need not exist.

    Args:
        name: Name of a released model, or an address.

    Raises:
        UnknownModelError: The name is neither of the two.
        CheckpointError: It is a bundled model's.
    """
    if name in RELEASED or name in ARCHIVES:
        return cached_model(name, name)
    if is_address(name):
        model = cached_model(public_address(name), address_key(name))
        if model.record() is None:  # perhaps an address as listed, without secrets
            model = next((known for known in cached_models() if known.name == name), model)
        return model
    if name in BUNDLED:
        msg = f"model {name}: comes with this program: it is neither downloaded nor removed"
        raise CheckpointError(msg)
    known = ", ".join((*BUNDLED, *RELEASED, *ARCHIVES))
    msg = (
        f"model {name}: expected a name from `sfisep models list`, or an address (https://...): "
        f"known are {known}"
    )
    raise UnknownModelError(msg)


def local_models() -> list[str]:
    """List the names and addresses of the models that are bundled or downloaded."""
    return [*BUNDLED, *(model.name for model in cached_models())]


def local_file(name: str) -> Path:
    """Return the file of a bundled or downloaded model, without any request.

    Raises:
        CheckpointError: Unknown, or not downloaded.
    """
    if name in BUNDLED:
        return BUNDLED[name]
    model = find_downloadable(name)
    if model.record() is None:
        raise not_downloaded(name)
    return model.path


def not_downloaded(name: str) -> CheckpointError:
    """Describe that a released model or an address is not in the cache."""
    said = shown_name(name)
    return CheckpointError(f"model {said}: is not downloaded: run `sfisep models download {said}`")


def check_model(name: str) -> None:
    """Compare the file of a bundled or downloaded model with its known digest.

    Raises:
        CheckpointError: The model is unknown, not downloaded, or damaged; the message says what to
            do.
    """
    path = local_file(name)
    if name not in BUNDLED:
        find_downloadable(name).check()
    elif (digest := _digest_or_reason(path)) != BUNDLED_SHA256[name]:
        msg = (
            f"model {name}: its file in the installed package, {path}, is damaged: expected "
            f"sha256 {BUNDLED_SHA256[name]}, found {digest}: install sfisep anew"
        )
        raise CheckpointError(msg)
    else:
        check_parts(path, read_description(path))


def _digest_or_reason(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        return f"nothing: {error.strerror}"


def fetch_model(
    name: str, *, sha256: str | None = None, progress: Progress | None = None, mend: bool = False
) -> Path:
    """Return the file of a released model or an address, and download it if it is not cached.

    No request is made for a cached model. If two processes need the same model it is downloaded
    once.

    Args:
        name: Name of a released model, or an address.
        sha256: For an address, or a released model of unknown digest: the expected digest, 64
            hexadecimal digits. None = the digest of the first download.
        progress: Called with bytes done, total bytes, and a label; None logs instead.
        mend: Replace a damaged file instead of raising an error.

    Returns:
        The safetensors file in the cache, with verified digest.

    Raises:
        CheckpointError: The model is unknown, cannot be downloaded or stored, or is damaged.
        ConfigError: `sha256` is not a digest, or the model is not an address.
    """
    model = find_downloadable(name)
    if sha256 is not None:
        sha256 = _checked_digest(name, sha256)
    if _is_ready(model, sha256, mend=mend):
        return model.path
    with locked(model) as folder:
        if _is_ready(model, sha256, mend=mend):  # another process has downloaded it
            return model.path
        progress = progress or LoggedProgress()
        if name in RELEASED:
            _fetch_released(model, RELEASED[name], folder, progress)
        elif name in ARCHIVES:
            _fetch_archive(model, ARCHIVES[name], sha256, folder, progress)
        else:
            _fetch_address(model, name, sha256, folder, progress)
    return model.path


def _checked_digest(name: str, sha256: str) -> str:
    if name in RELEASED:
        msg = f"model {name}: a sha256 can be given for an address only: the hub lists its own"
        raise ConfigError(msg)
    if name in ARCHIVES and ARCHIVES[name].sha256 is not None:
        msg = f"model {name}: a sha256 can be given for an address only: that of this one is known"
        raise ConfigError(msg)
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        msg = f"sha256 {sha256!r}: expected 64 hexadecimal digits"
        raise ConfigError(msg)
    return sha256.lower()


def _is_ready(model: CachedModel, sha256: str | None, *, mend: bool) -> bool:
    record = model.record()
    if record is None or (sha256 is not None and record.source_sha256 != sha256):
        return False
    try:
        model.check()
    except CheckpointError:
        if not mend:
            raise
        return False
    return True


def _fetch_released(
    model: CachedModel, released: ReleasedWeights, folder: Path, progress: Progress
) -> None:
    from sfisep_core.pretrained.official import convert_official_checkpoint  # loads PyTorch

    _logger.info("downloading model %s from %s", model.name, released.repository)
    try:
        checkpoint, remote = fetch_checkpoint(
            released.repository, released.revision, released.seed, folder, progress
        )
    except CheckpointError as error:
        msg = (
            f"model {model.name}: cannot be downloaded from {released.repository}: {error}. To do "
            f"without: fetch the `best_checkpoint` of seed {released.seed} from that repository at "
            f"revision {released.revision} elsewhere, and pass its path as --model"
        )
        raise CheckpointError(msg) from error
    weights = folder / "model.safetensors"
    convert_official_checkpoint(checkpoint, weights)
    keep(
        model,
        weights,
        source=f"{released.repository}/{remote.path}",
        revision=released.revision,
        source_sha256=remote.sha256,
    )


def _fetch_archive(
    model: CachedModel,
    published: PublishedWeights,
    sha256: str | None,
    folder: Path,
    progress: Progress,
) -> None:
    from sfisep_core.pretrained.spleeter import convert_spleeter  # loads PyTorch
    from sfisep_core.pretrained.torch_models import convert_torch_checkpoint

    _logger.info(
        "downloading model %s from %s; licence of the weights: %s",
        model.name,
        published.address,
        published.weights_licence,
    )
    expected = published.sha256 or sha256 or _first_digest(model)
    downloaded = folder / "download"
    try:
        digest = fetch_address(published.address, expected, downloaded, progress)
    except CheckpointError as error:
        msg = (
            f"model {model.name}: cannot be downloaded: {error}. To do without: fetch "
            f"{published.address} elsewhere, and pass its path as --model"
        )
        raise CheckpointError(msg) from error
    weights = folder / "model.safetensors"
    about, licence = published.description, published.weights_licence
    if published.family == "spleeter":
        convert_spleeter(
            downloaded, weights, form=published.form, description=about, licence=licence
        )
    else:
        convert_torch_checkpoint(downloaded, weights, description=about, licence=licence)
    if expected is None:
        _warn_unchecked(model, digest)
    keep(model, weights, source=published.address, revision=None, source_sha256=digest)


def _fetch_address(
    model: CachedModel, url: str, sha256: str | None, folder: Path, progress: Progress
) -> None:
    from sfisep_core.pretrained.model_files import load_model  # loads PyTorch
    from sfisep_core.pretrained.spleeter import convert_spleeter
    from sfisep_core.pretrained.torch_models import convert_torch_checkpoint

    sha256 = sha256 or _first_digest(model)
    known = sha256 is not None
    _logger.info("downloading %s", model.name)
    downloaded = folder / "download"
    try:
        sha256 = fetch_address(url, sha256, downloaded, progress)
    except CheckpointError as error:
        msg = (
            f"model {model.name}: cannot be downloaded: {error}. To do without: fetch the file "
            "elsewhere, and pass its path as --model"
        )
        raise CheckpointError(msg) from error
    weights = downloaded
    try:
        kind = model_file_kind(downloaded)
        if kind == "tensorflow":
            weights = folder / "model.safetensors"
            convert_spleeter(downloaded, weights)
        elif kind == "torch":
            weights = folder / "model.safetensors"
            convert_torch_checkpoint(downloaded, weights)
        load_model(weights)
    except CheckpointError as error:
        reason = str(error).replace(str(downloaded), "(as downloaded)")
        msg = (
            f"model {model.name}: the file there is no model, and was not kept: {reason}: give the "
            "address of a model file"
        )
        raise CheckpointError(msg) from error
    if not known:
        _warn_unchecked(model, sha256)
    keep(model, weights, source=model.name, revision=None, source_sha256=sha256)


def _first_digest(model: CachedModel) -> str | None:
    """Return the digest of an earlier download, which a later one has to have."""
    record = model.record()
    return None if record is None else record.source_sha256


def _warn_unchecked(model: CachedModel, digest: str) -> None:
    _logger.warning(
        "%s was taken without a sha256 to check it against; from now on it must be %s",
        model.name,
        digest,
    )
