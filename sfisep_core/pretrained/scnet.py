"""SCNet's published weights, as models of this program.

Layout: a file of `torch.save` with the state of the published program, bare or as "best_state", the
names perhaps with "module." in front. Nothing in such a file is executed.
"""

import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.models.blocks.scnet import SCNetNetworkConfig
from sfisep_core.models.scnet import SCNet, SCNetConfig
from sfisep_core.pretrained.declared_size import build_declared
from sfisep_core.pretrained.model_files import Storage, check_finite, save_model
from sfisep_core.pretrained.torch_files import describe, read_torch_file

# The order in the published weights.
PUBLISHED_SOURCES = ("drums", "bass", "other", "vocals")

_PARTS = 4  # real and imaginary ones of two channels
_MARK = b"SDlayer"  # in the names of the published program alone
_MOST_PICKLE = 4 * 2**20
_BEST, _PREFIX = "best_state", "module."
_NAMES = (
    (r"\.SDlayer\.convs\.", ".compressions."),
    (r"\.conv_modules\.(\d+)\.layers\.", r".bands.\1."),
    (r"(\.bands\.\d+\.\d+)\.0\.", r"\1.norm."),
    (r"(\.bands\.\d+\.\d+)\.1\.", r"\1.convolution."),
    (r"(\.bands\.\d+\.\d+)\.3\.", r"\1.depthwise."),
    (r"(\.bands\.\d+\.\d+)\.4\.", r"\1.inner_norm."),
    (r"(\.bands\.\d+\.\d+)\.6\.", r"\1.output."),
    (r"\.globalconv\.", ".convolution."),
    (r"^(decoder\.\d+)\.0\.conv\.", r"\1.fusion."),
    (r"^(decoder\.\d+)\.1\.convtrs\.", r"\1.expansions."),
    (r"^separation_net\.dp_modules\.", "layers."),
    (r"^(layers\.\d+)\.(lstm|linear|norm)_layers\.0\.", r"\1.along_bins.\2."),
    (r"^(layers\.\d+)\.(lstm|linear|norm)_layers\.1\.", r"\1.along_frames.\2."),
    (r"^", "network."),
)


def is_scnet_checkpoint(path: Path) -> bool:
    """Tell by names in its pickle whether a file of `torch.save` has SCNet's published layout.

    Args:
        path: A file that `model_file_kind` calls "torch".
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for record in archive.infolist():
                if record.filename.endswith("/data.pkl"):
                    with archive.open(record) as file:
                        return _MARK in file.read(_MOST_PICKLE)
    except (OSError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
        pass  # whoever reads all of it says what is wrong
    return False


def load_scnet(path: Path) -> SCNet:
    """Load published weights.

    Args:
        path: The published file.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        CheckpointError: The file is missing, damaged, or holds another kind of model.
    """
    state = _read_state(path)
    weights = rename_weights(state)
    config = _config(state, path)
    where = f"checkpoint {path}: its weights are not those of a published SCNet"
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    try:
        model = build_declared(SCNet.family, asdict(config), shapes, where=where)
    except ConfigError as error:
        msg = f"{where}: {error}"
        raise CheckpointError(msg) from error
    assert isinstance(model, SCNet)
    check_finite(weights, path)
    model.load_state_dict(weights)
    return model.eval()


def read_scnet_config(path: Path) -> SCNetConfig:
    """Read the settings of published weights; no model is built.

    Raises:
        CheckpointError: As `load_scnet`.
    """
    return _config(_read_state(path), path)


def convert_scnet(
    path: Path,
    out: Path,
    *,
    description: str = "",
    licence: str = "MIT, where they are the author's",
    storage: Storage = "float32",
) -> None:
    """Convert published weights to the native format.

    Args:
        path: The published file.
        out: Native model file to write (.safetensors).
        description: One line; none = one that names the file.
        licence: Of the weights.
        storage: Storage format of the weights, see `save_model`.

    Raises:
        CheckpointError: The file cannot be read, or `out` not written.
    """
    model = load_scnet(path)
    description = description or f"SCNet, converted from {path.name}"
    save_model(model, out, training={"description": description}, licence=licence, storage=storage)


def rename_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give weights of the published program under the names that they have in `SCNet`."""
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        # Convolutions along frames had no axis of bins there.
        renamed[name] = tensor.unsqueeze(2) if tensor.dim() == 3 else tensor
    return renamed


def _read_state(path: Path) -> dict[str, Tensor]:
    content = read_torch_file(path)
    if isinstance(content, dict) and _BEST in content:
        content = content[_BEST]
    if not isinstance(content, dict) or not content:
        msg = (
            f"checkpoint {path}: expected the weights of SCNet by name, bare or as '{_BEST}', got "
            f"{describe(content)}"
        )
        raise CheckpointError(msg)
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            shown = str(name)[:100] if isinstance(name, str) else describe(name)
            msg = (
                f"checkpoint {path}: expected names and tensors as the weights of SCNet, got "
                f"{shown}: {describe(value)}"
            )
            raise CheckpointError(msg)
    state = {name.removeprefix(_PREFIX): tensor.detach() for name, tensor in content.items()}
    if len(state) != len(content):
        msg = f"checkpoint {path}: expected each weight once, got some with and without '{_PREFIX}'"
        raise CheckpointError(msg)
    return state


def _config(state: Mapping[str, Tensor], path: Path) -> SCNetConfig:
    """Tell the size of the network from the weights' shapes; strides and transform are published.

    Numbers are taken from shapes as they are: whoever builds the model compares them all.
    """
    usual = SCNetNetworkConfig()
    try:
        blocks = _count(state, r"encoder\.(\d+)\.")
        first = [
            tuple(state[f"encoder.{block}.SDlayer.convs.0.weight"].shape) for block in range(blocks)
        ]
        kernels = tuple(
            int(state[f"encoder.0.SDlayer.convs.{band}.weight"].shape[2])
            for band in range(len(usual.kernel_sizes))
        )
        inner = int(state["encoder.0.conv_modules.0.layers.0.6.weight"].shape[1])
        hidden, given = (
            int(state[f"separation_net.dp_modules.0.lstm_layers.0.weight_{kind}_l0"].shape[1])
            for kind in ("hh", "ih")
        )
        outputs = int(state[f"decoder.{blocks - 1}.1.convtrs.0.bias"].shape[0])
        network = SCNetNetworkConfig(
            channels=tuple(int(shape[0]) for shape in first),
            depths=tuple(
                _count(state, rf"encoder\.0\.conv_modules\.{band}\.layers\.(\d+)\.")
                for band in range(len(usual.depths))
            ),
            compression=int(first[0][0]) // inner,
            num_layers=_count(state, r"separation_net\.dp_modules\.(\d+)\."),
            expansion=hidden // given,
        )
        if kernels != usual.kernel_sizes or outputs != _PARTS * len(PUBLISHED_SOURCES):
            msg = (
                f"kernels {kernels} and {outputs} outputs, expected {usual.kernel_sizes} and "
                f"{_PARTS * len(PUBLISHED_SOURCES)}: {', '.join(PUBLISHED_SOURCES)} in stereo"
            )
            raise ValueError(msg)
        return SCNetConfig(sources=PUBLISHED_SOURCES, network=network)
    except (ConfigError, KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        found = f"no {error}" if isinstance(error, KeyError) else error
        msg = f"checkpoint {path}: expected the weights of a published SCNet, found {found}"
        raise CheckpointError(msg) from error


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """Count the different numbers in names that begin so."""
    return len({match[1] for name in state if (match := re.match(pattern, name))})
