"""Checkpoints of the published SFI Conv-TasNet program, as models of this one.

Format: see `official_checkpoint`. Nothing in such a file is executed.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.models.blocks.tcn import TCNConfig
from sfisep_core.models.sfi_conv_tasnet import SFIConvTasNet, SFIConvTasNetConfig
from sfisep_core.pretrained.declared_size import build_declared
from sfisep_core.pretrained.model_files import Storage, check_finite, check_out, save_model
from sfisep_core.pretrained.official_checkpoint import read_official_checkpoint
from sfisep_core.pretrained.torch_layouts import PUBLISHED_SOURCES

# The order of the grouped networks in the published weights.
OFFICIAL_SOURCES = PUBLISHED_SOURCES["sfi-conv-tasnet"]

_DESIGNS = {"freq_resp_samp": "frequency", "imp_resp_samp": "time"}
_FILTERS = {
    "ModulatedGaussianFilters": "modulated-gaussian",
    "TDModulatedGaussianFilters": "modulated-gaussian",
    "MultiPhaseGammaToneFilters": "multi-phase-gammatone",
}
# Exceptions caused by values of a wrong type or size.
_MISFITS = (
    ConfigError,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
)
_NAMES = (
    (r"^stage\.(encoder|decoder)\.conv\.continuous_filters\.", r"\1.filters."),
    (r"\.mus$", ".center"),
    (r"\._ln_sigma2s$", ".ln_sigma2"),
    (r"\.phases$", ".phase"),
    (r"\.center_freqs_in_hz$", ".center_hz"),
    (r"\.n_phase_variations$", ".center_repeats"),
    (r"^stage\.mask\.tcn\.", "masker.layers."),
    (r"^stage\.mask\.", "masker."),
    (r"masker\.prelu_4\.", "masker.output.0."),
    (r"masker\.norm_4\.", "masker.output.1."),
    (r"\.group_norm\.", "."),
    (r"\.conv1d\.conv\.", ".conv_in."),
    (r"\.dconv1d\.conv\.", ".depthwise."),
    (r"\.res_out\.conv\.", ".residual."),
    (r"\.skip_out\.conv\.", ".skip."),
    (r"\.in_conv\.conv\.", ".conv_in."),
    (r"\.mask_output\.conv\.", ".conv_out."),
)


def load_official_model(path: Path) -> SFIConvTasNet:
    """Load a published checkpoint (`best_checkpoint`).

    Args:
        path: The file.

    Returns:
        The model in evaluation mode, in release alignment, on the CPU.

    Raises:
        CheckpointError: The file is missing, damaged, or contains another kind of model.
    """
    checkpoint = read_official_checkpoint(path)
    weights = _rename(checkpoint.state_dict)
    misfit = f"checkpoint {path}: its weights do not fit its own settings"
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    try:
        config = _config(checkpoint.settings)
        model = build_declared(SFIConvTasNet.family, asdict(config), shapes, where=misfit)
        assert isinstance(model, SFIConvTasNet)
    except _MISFITS as error:
        raise _unfit_settings(path, error) from error
    check_finite(weights, path)
    model.load_state_dict(weights)
    return model.eval()


def read_official_config(path: Path) -> SFIConvTasNetConfig:
    """Read the settings of a published checkpoint; no model is built.

    Raises:
        CheckpointError: The file is missing, damaged, or contains another kind of model.
    """
    try:
        return _config(read_official_checkpoint(path).settings)
    except _MISFITS as error:
        raise _unfit_settings(path, error) from error


def _unfit_settings(path: Path, error: Exception) -> CheckpointError:
    msg = (
        f"checkpoint {path}: expected the settings of a published SFI Conv-TasNet, found "
        f"settings that do not fit: {error!r}"
    )
    return CheckpointError(msg)


def convert_official_checkpoint(path: Path, out: Path, *, storage: Storage = "float32") -> None:
    """Convert a published checkpoint to the native format.

    Args:
        path: The published file.
        out: Native model file to write (.safetensors).
        storage: Storage format of the weights, see `save_model`.

    Raises:
        CheckpointError: The file cannot be read, or `out` cannot be written.
        ConfigError: `out` is the published file itself.
    """
    check_out(out, [path])
    model = load_official_model(path)
    save_model(
        model,
        out,
        training={"description": f"converted from a published checkpoint, {path.name}"},
        licence="MIT",
        storage=storage,
    )


def _config(settings: Mapping[str, Any]) -> SFIConvTasNetConfig:
    encoder, decoder = settings["encoder_params"], settings["decoder_params"]
    for part in (encoder, decoder):
        if part.get("use_Hilbert_transforms"):
            msg = (
                "use_Hilbert_transforms = true is not supported (nor used by the published models)"
            )
            raise ConfigError(msg)
        if part["filter_params"].get("one_sided"):
            msg = "one_sided = true is not supported (nor used by the published models)"
            raise ConfigError(msg)
    for key in ("fir_computation_type", "ContFilterType"):
        if encoder[key] != decoder[key]:
            msg = f"{key} differs between encoder ({encoder[key]}) and decoder ({decoder[key]})"
            raise ConfigError(msg)
    if settings.get("residual_bias"):
        msg = "residual_bias = true is not supported (nor used by the published models)"
        raise ConfigError(msg)
    lowest, highest = encoder["filter_params"]["initial_freq_range"]
    return SFIConvTasNetConfig(
        sources=OFFICIAL_SOURCES,
        native_rate=int(settings["sampling_rate"]),
        num_filters=int(settings["N"]),
        kernel_size=int(settings["L"]),
        stride=int(settings["W"]),
        filters=_FILTERS[encoder["ContFilterType"]],
        design=_DESIGNS[encoder["fir_computation_type"]],  # type: ignore[arg-type]
        alignment="release",
        num_response_samples=int(encoder.get("n_samples_freq_resp", 640)),
        num_centers=int(encoder["filter_params"].get("n_center_freqs", 96)),
        lowest_hz=float(lowest),
        highest_hz=float(highest),
        tcn=TCNConfig(
            bottleneck_channels=int(settings["B"]),
            hidden_channels=int(settings["H"]),
            kernel_size=int(settings["kernel"]),
            num_layers=int(settings["layers"]),
            num_stacks=int(settings["stack"]),
        ),
    )


def _rename(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in weights.items():
        if name.endswith(".train_sample_rate"):
            continue  # equal to the settings' sampling_rate
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed
