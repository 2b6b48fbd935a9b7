"""Sampling-frequency-independent (SFI) layers: analog filters, their taps, convolutions."""

from sfisep_core.sfi.analog_filters import ModulatedGaussianFilters, MultiPhaseGammatoneFilters
from sfisep_core.sfi.layers import SFIConv1d, SFIConvTranspose1d

__all__ = [
    "ModulatedGaussianFilters",
    "MultiPhaseGammatoneFilters",
    "SFIConv1d",
    "SFIConvTranspose1d",
]
