"""Weights of torchaudio's bundles for source separation, as models of this program.

Layout: the state of torchaudio's module, in a file of `torch.save`.
"""

from pathlib import Path

from torch import Tensor

from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.models.blocks.tcn import TCNConfig
from sfisep_core.models.conv_tasnet import ConvTasNetConfig
from sfisep_core.models.hdemucs import HDemucsConfig
from sfisep_core.pretrained.torch_layouts import PUBLISHED_SOURCES
from sfisep_core.pretrained.torch_states import read_state, rename

# Of `conv_tasnet_base`: layers and what is in them, by their places in sequences.
_CONV_TASNET_NAMES = (
    (r"^mask_generator\.input_norm\.", "masker.norm."),
    (r"^mask_generator\.input_conv\.", "masker.conv_in."),
    (r"^mask_generator\.output_prelu\.", "masker.prelu."),
    (r"^mask_generator\.output_conv\.", "masker.conv_out."),
    (r"^mask_generator\.conv_layers\.", "masker.layers."),
    (r"\.res_out\.", ".residual."),
    (r"\.skip_out\.", ".skip."),
    *(
        (rf"\.conv_layers\.{place}\.", f".{name}.")
        for place, name in enumerate(
            ("conv_in", "prelu_1", "norm_1", "depthwise", "prelu_2", "norm_2")
        )
    ),
)


def read_hdemucs(path: Path) -> tuple[HDemucsConfig, dict[str, Tensor]]:
    """Read settings and weights of `torchaudio.models.hdemucs_high`.

    Raises:
        CheckpointError: The file is missing, damaged, or holds another kind of model.
    """
    state = read_state(path, program="Hybrid Demucs")
    try:
        first = state["freq_encoder.0.conv.bias"]
        config = HDemucsConfig(sources=PUBLISHED_SOURCES["hdemucs"], channels=first.numel())
    except (ConfigError, KeyError) as error:
        found = f"no {error}" if isinstance(error, KeyError) else error
        msg = f"checkpoint {path}: expected the weights of a Hybrid Demucs, found {found}"
        raise CheckpointError(msg) from error
    return config, rename(state, [("^", "network.")])


def read_conv_tasnet(path: Path) -> tuple[ConvTasNetConfig, dict[str, Tensor]]:
    """Read settings and weights of `torchaudio.models.conv_tasnet_base` for two speakers.

    Raises:
        CheckpointError: The file is missing, damaged, or holds another kind of model.
    """
    state = read_state(path, program="Conv-TasNet")
    config = ConvTasNetConfig(
        sources=PUBLISHED_SOURCES["conv-tasnet"],
        native_rate=8000,
        mask="relu",
        tcn=TCNConfig(
            bottleneck_channels=128,
            hidden_channels=512,
            kernel_size=3,
            num_layers=8,
            num_stacks=3,
            norm_groups=1,
        ),
        # The example separates whole recordings: from one segment to the next, speakers might
        # change places. Longer ones are cut, because memory grows with the segment.
        segment_seconds=60,
    )
    return config, rename(state, _CONV_TASNET_NAMES)
