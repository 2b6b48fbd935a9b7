"""The interface of a bank of analog filters, as the layers use it."""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn

from sfisep_core.errors import ConfigError


@dataclass(frozen=True)
class FilterSettings:
    """Initial settings of a bank; a kind of filter ignores the settings that it does not have.

    Attributes:
        num_filters: Number of filters.
        num_centers: Number of different centre frequencies, for kinds whose filters share them.
        lowest_hz: Centre of the first filter, in Hz.
        highest_hz: Centre of the last filter, in Hz.
    """

    num_filters: int
    num_centers: int = 96
    lowest_hz: float = 50.0
    highest_hz: float = 16000.0


class AnalogFilters(nn.Module, ABC):
    """A bank of analog filters, the parameters of an SFI layer.

    A kind of filter is a subclass. The two design methods, the layers, the models and the training
    use only these members.

    Attributes:
        causal: Whether h(t) = 0 for t < 0. Kernels of other filters are centred at t = 0.
        equal_energy: Whether time-domain taps are scaled to the same RMS for all filters.
        transform_factor: h(t) is this many times the inverse Fourier transform of H(w).
    """

    causal: ClassVar[bool] = False
    equal_energy: ClassVar[bool] = False
    transform_factor: ClassVar[float] = 1.0

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: FilterSettings) -> Self:
        """Build a bank with its initial parameters.

        Args:
            settings: Number of filters and their frequencies.

        Returns:
            The bank.

        Raises:
            ConfigError: The settings do not fit this kind of filter.
        """

    @property
    @abstractmethod
    def num_filters(self) -> int:
        """Number of filters."""

    @abstractmethod
    def centers_hz(self) -> Tensor:
        """Compute the centre frequencies in Hz, float64, shape (num_filters,)."""

    @abstractmethod
    def bandwidths_hz(self) -> Tensor:
        """Compute the bandwidths in Hz, float64, shape (num_filters,)."""

    @abstractmethod
    def impulse_response(self, time: Tensor) -> Tensor:
        """Evaluate h(t).

        Args:
            time: Instants in seconds, float64, any shape.

        Returns:
            Values, float64, shape (num_filters, *time.shape).
        """

    def frequency_response(self, angular_frequency: Tensor) -> Tensor:
        """Evaluate H(w); only for kinds of filter that `has_frequency_response`.

        Args:
            angular_frequency: w in rad/s, float64, any shape.

        Returns:
            Complex gains, complex128, shape (num_filters, *angular_frequency.shape).

        Raises:
            ConfigError: H(w) is not known for this kind of filter.
        """
        del angular_frequency
        msg = (
            f"frequency-domain design needs a frequency response, which {type(self).__name__} does "
            'not have: use design="time"'
        )
        raise ConfigError(msg)

    def has_frequency_response(self) -> bool:
        """Tell whether H(w) is known, which the frequency-domain design requires."""
        return type(self).frequency_response is not AnalogFilters.frequency_response

    def tap_parameters(self) -> tuple[Tensor, ...]:
        """Return the tensors on which the taps depend; cached taps are valid while they stay equal.

        Returns:
            All parameters and buffers, unless a kind of filter overrides this.
        """
        return (*self.parameters(), *self.buffers())

    def moved(self, device: torch.device) -> Self:
        """Return filters with the same parameters on a device, through which gradients pass.

        Args:
            device: Where the filters are to be evaluated.

        Returns:
            These filters, if they are there, or filters that hold copies.
        """
        return self if self.device == device else _moved(self, device)

    @property
    def device(self) -> torch.device:
        """Device on which the taps are computed."""
        return self._representative().device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the taps: that of the parameters."""
        return self._representative().dtype

    def _representative(self) -> Tensor:
        numbers = (t for t in self.tap_parameters() if t.is_floating_point())
        return next(numbers, torch.empty(0))


_Module = TypeVar("_Module", bound=nn.Module)


def _moved(module: _Module, device: torch.device) -> _Module:
    """Copy a module with its tensors on a device; `nn.Module.to` would cut gradients off."""
    result = copy.copy(module)
    # These dictionaries are all that a module keeps its tensors in.
    for kind in ("_parameters", "_buffers"):
        tensors = getattr(module, kind).items()
        moved = {name: None if one is None else one.to(device) for name, one in tensors}
        object.__setattr__(result, kind, moved)
    parts = {
        name: None if part is None else _moved(part, device)
        for name, part in module._modules.items()
    }
    object.__setattr__(result, "_modules", parts)
    return result
