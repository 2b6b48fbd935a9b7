"""SCNet's published weights, as models of this program.

Layout: a file of `torch.save` with the state of the published program, bare or as "best_state", the
names perhaps with "module." in front. Nothing in such a file is executed.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.models.blocks.scnet_bands import SCNetNetworkConfig
from sfisep_core.models.scnet import SCNetConfig
from sfisep_core.pretrained.torch_layouts import PUBLISHED_SOURCES
from sfisep_core.pretrained.torch_states import read_state, rename

_SOURCES = PUBLISHED_SOURCES["scnet"]
_PARTS = 4  # real and imaginary ones of two channels
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


def read_scnet(path: Path) -> tuple[SCNetConfig, dict[str, Tensor]]:
    """Read settings and weights of a published file.

    Raises:
        CheckpointError: The file is missing, damaged, or holds another kind of model.
    """
    state = read_state(path, program="SCNet")
    return _config(state, path), rename_weights(state)


def rename_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give weights of the published program under the names that they have in `SCNet`."""
    # Convolutions along frames had no axis of bins there.
    return {
        name: tensor.unsqueeze(2) if tensor.dim() == 3 else tensor
        for name, tensor in rename(state, _NAMES).items()
    }


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
        if kernels != usual.kernel_sizes or outputs != _PARTS * len(_SOURCES):
            msg = (
                f"kernels {kernels} and {outputs} outputs, expected {usual.kernel_sizes} and "
                f"{_PARTS * len(_SOURCES)}: {', '.join(_SOURCES)} in stereo"
            )
            raise ValueError(msg)
        return SCNetConfig(sources=_SOURCES, network=network)
    except (ConfigError, KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        found = f"no {error}" if isinstance(error, KeyError) else error
        msg = f"checkpoint {path}: expected the weights of a published SCNet, found {found}"
        raise CheckpointError(msg) from error


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """Count the different numbers in names that begin so."""
    return len({match[1] for name in state if (match := re.match(pattern, name))})
