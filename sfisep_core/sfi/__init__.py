"""Sampling-frequency-independent (SFI) layers: analog filters, their taps, convolutions."""

from sfisep_core.sfi.analog_filters import (
    FILTERS,
    ModulatedGaussianFilters,
    MultiPhaseGammatoneFilters,
)
from sfisep_core.sfi.filter_bank import AnalogFilters, FilterSettings
from sfisep_core.sfi.layers import SFIConv1d, SFIConvTranspose1d

__all__ = [
    "FILTERS",
    "AnalogFilters",
    "FilterSettings",
    "ModulatedGaussianFilters",
    "MultiPhaseGammatoneFilters",
    "SFIConv1d",
    "SFIConvTranspose1d",
]
