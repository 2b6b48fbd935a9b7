"""The families of separators, by name."""

from collections.abc import Mapping
from typing import Any

from sfisep_core.config_values import build_config
from sfisep_core.errors import ConfigError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.conv_tasnet import ConvTasNet, ConvTasNetConfig
from sfisep_core.models.deep_conv_sep import DeepConvSep, DeepConvSepConfig
from sfisep_core.models.sepformer import SepFormer, SepFormerConfig
from sfisep_core.models.sfi_conv_tasnet import SFIConvTasNet, SFIConvTasNetConfig
from sfisep_core.models.sfsrnet import SFSRNet, SFSRNetConfig
from sfisep_core.models.super_resolved import SuperResolvedConfig, SuperResolvedSeparator
from sfisep_core.models.tfc_unet import ComplexUNet, ComplexUNetConfig
from sfisep_core.models.unet import MagnitudeUNet, MagnitudeUNetConfig

FAMILIES: dict[str, tuple[type[Any], type[SeparationModel]]] = {
    SFIConvTasNet.family: (SFIConvTasNetConfig, SFIConvTasNet),
    DeepConvSep.family: (DeepConvSepConfig, DeepConvSep),
    MagnitudeUNet.family: (MagnitudeUNetConfig, MagnitudeUNet),
    ComplexUNet.family: (ComplexUNetConfig, ComplexUNet),
    ConvTasNet.family: (ConvTasNetConfig, ConvTasNet),
    SepFormer.family: (SepFormerConfig, SepFormer),
    SFSRNet.family: (SFSRNetConfig, SFSRNet),
    SuperResolvedSeparator.family: (SuperResolvedConfig, SuperResolvedSeparator),
}


def build_model(family: str, config: Mapping[str, Any]) -> SeparationModel:
    """Build a model of a family with fresh weights.

    Args:
        family: Name in `FAMILIES`.
        config: Settings by name; those left out keep the family's defaults.

    Returns:
        The model, in training mode.

    Raises:
        ConfigError: Unknown family or setting, or a value that does not fit.
    """
    if family not in FAMILIES:
        msg = f"model family {family!r}: unknown; expected one of {', '.join(FAMILIES)}"
        raise ConfigError(msg)
    config_kind, model_kind = FAMILIES[family]
    return model_kind.from_config(
        build_config(config_kind, config, where=f"{family} model"), build_model
    )
