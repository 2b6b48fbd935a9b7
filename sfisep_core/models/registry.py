"""The families of separators, by name."""

from collections.abc import Mapping
from typing import Any

from sfisep_core.config_values import build_config
from sfisep_core.errors import ConfigError
from sfisep_core.models.cascade import Cascade, CascadeConfig
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.conv_tasnet import ConvTasNet, ConvTasNetConfig
from sfisep_core.models.deep_conv_sep import DeepConvSep, DeepConvSepConfig
from sfisep_core.models.ensemble import Ensemble, EnsembleConfig
from sfisep_core.models.hdemucs import HDemucs, HDemucsConfig
from sfisep_core.models.scnet import SCNet, SCNetConfig
from sfisep_core.models.sepformer import SepFormer, SepFormerConfig
from sfisep_core.models.sfi_conv_tasnet import SFIConvTasNet, SFIConvTasNetConfig
from sfisep_core.models.sfsrnet import SFSRNet, SFSRNetConfig
from sfisep_core.models.spleeter import Spleeter, SpleeterConfig
from sfisep_core.models.super_resolved import SuperResolvedConfig, SuperResolvedSeparator
from sfisep_core.models.tfc_unet import ComplexUNet, ComplexUNetConfig
from sfisep_core.models.unet import MagnitudeUNet, MagnitudeUNetConfig

FAMILIES: dict[str, tuple[type[Any], type[SeparationModel]]] = {
    SFIConvTasNet.family: (SFIConvTasNetConfig, SFIConvTasNet),
    DeepConvSep.family: (DeepConvSepConfig, DeepConvSep),
    MagnitudeUNet.family: (MagnitudeUNetConfig, MagnitudeUNet),
    ComplexUNet.family: (ComplexUNetConfig, ComplexUNet),
    Spleeter.family: (SpleeterConfig, Spleeter),
    SCNet.family: (SCNetConfig, SCNet),
    HDemucs.family: (HDemucsConfig, HDemucs),
    ConvTasNet.family: (ConvTasNetConfig, ConvTasNet),
    SepFormer.family: (SepFormerConfig, SepFormer),
    SFSRNet.family: (SFSRNetConfig, SFSRNet),
    SuperResolvedSeparator.family: (SuperResolvedConfig, SuperResolvedSeparator),
    Cascade.family: (CascadeConfig, Cascade),
    Ensemble.family: (EnsembleConfig, Ensemble),
}


def build_model(family: str, config: Mapping[str, Any]) -> SeparationModel:
    """Build a model of a family with initial weights.

    Args:
        family: Name in `FAMILIES`.
        config: Settings by name; the family's defaults apply to those left out.

    Returns:
        The model, in training mode.

    Raises:
        ConfigError: Unknown family or setting, or an invalid value.
    """
    config_kind, model_kind = _find_family(family)
    settings = build_config(config_kind, config, where=f"{family} model")
    return model_kind.from_config(settings, build_model)


def describe_model(family: str, config: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
    """Read the sources and the native rate from a model's settings, without building it.

    Args:
        family: Name in `FAMILIES`.
        config: Settings by name, as for `build_model`.

    Returns:
        The names of its sources in order, and its native rate in Hz.

    Raises:
        ConfigError: Unknown family or setting, or an invalid value.
    """
    config_kind, model_kind = _find_family(family)
    settings = build_config(config_kind, config, where=f"{family} model")
    return model_kind.sources_of(settings, _sources_of), settings.native_rate


def _sources_of(family: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    return describe_model(family, config)[0]


def _find_family(family: str) -> tuple[type[Any], type[SeparationModel]]:
    if family not in FAMILIES:
        msg = f"model family {family!r}: unknown; expected one of {', '.join(FAMILIES)}"
        raise ConfigError(msg)
    return FAMILIES[family]
