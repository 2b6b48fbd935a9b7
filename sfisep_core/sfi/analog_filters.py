"""The kinds of analog filters, by name in `FILTERS`.

Source: Saito et al., TASLP 30:2928-2943, 2022 (modulated Gaussian and its use in SFI layers);
Ditter and Gerkmann, ICASSP 2020 (multi-phase gammatone).
"""

import math
from typing import Self

import torch
from torch import Tensor, nn

from sfisep_core.errors import ConfigError
from sfisep_core.sfi.filter_bank import AnalogFilters, FilterSettings

# Glasberg and Moore's scale as the paper writes it: erb(f) = 9.265 ln(1 + f / (24.7 * 9.265)).
_ERB_QUALITY = 9.265
_ERB_MIN_WIDTH = 24.7

_INITIAL_SIGMA = 2 * math.pi * 100.0  # rad/s
_MIN_LN_SIGMA2 = 2 * math.log(2 * math.pi * 1.0)  # a filter is never narrower than 1 Hz


def erb_spaced(*, lowest_hz: float, highest_hz: float, count: int) -> Tensor:
    """Compute frequencies that are equally spaced on the ERB-rate scale.

    Args:
        lowest_hz: First frequency in Hz.
        highest_hz: Last frequency in Hz.
        count: Number of frequencies.

    Returns:
        Frequencies in Hz, float64, shape (count,).

    Raises:
        ConfigError: `count` or the range is empty.
    """
    if count < 1 or not 0 <= lowest_hz <= highest_hz:
        msg = (
            "analog filters: expected at least one centre frequency and 0 <= lowest_hz <= "
            f"highest_hz, got {count} from {lowest_hz} to {highest_hz} Hz"
        )
        raise ConfigError(msg)
    low, high = (
        _ERB_QUALITY * math.log1p(f / (_ERB_MIN_WIDTH * _ERB_QUALITY))
        for f in (lowest_hz, highest_hz)
    )
    scale = torch.linspace(low, high, count, dtype=torch.float64)
    return torch.expm1(scale / _ERB_QUALITY) * (_ERB_MIN_WIDTH * _ERB_QUALITY)


class ModulatedGaussianFilters(AnalogFilters):
    """Gaussian band-pass filters, one per filter: centre, bandwidth and phase are learned.

    Frequency response, w in rad/s:
        H(w) = e^{+j phi} G(w - mu) + e^{-j phi} G(w + mu),   G(w) = exp(-w^2 / (2 sigma^2)).
    Its inverse Fourier transform is
        (1 / 2 pi) * 2 sqrt(2 pi sigma^2) exp(-sigma^2 t^2 / 2) cos(mu t + phi).
    The published time-domain layers omit the factor 1 / (2 pi). `impulse_response` omits it too, so
    that published weights keep their meaning: it is 2 pi times the inverse transform of H.

    Args:
        num_filters: Number of filters.
        lowest_hz: Centre of the first filter at initialisation, in Hz.
        highest_hz: Centre of the last filter at initialisation, in Hz.

    Source: Saito et al. 2022, section III-B.
    """

    transform_factor = 2 * math.pi

    def __init__(
        self, num_filters: int, *, lowest_hz: float = 50.0, highest_hz: float = 16000.0
    ) -> None:
        super().__init__()
        centers = erb_spaced(lowest_hz=lowest_hz, highest_hz=highest_hz, count=num_filters)
        self.center = nn.Parameter((2 * math.pi * centers).float())  # mu, rad/s
        self.ln_sigma2 = nn.Parameter(torch.full((num_filters,), 2 * math.log(_INITIAL_SIGMA)))
        self.phase = nn.Parameter(math.pi * torch.rand(num_filters))

    @classmethod
    def from_settings(cls, settings: FilterSettings) -> Self:
        """Build a bank with its initial parameters; see `AnalogFilters.from_settings`."""
        return cls(
            settings.num_filters, lowest_hz=settings.lowest_hz, highest_hz=settings.highest_hz
        )

    @property
    def num_filters(self) -> int:
        """Number of filters."""
        return self.center.numel()

    def centers_hz(self) -> Tensor:
        """Compute the centre frequencies in Hz, float64, shape (num_filters,)."""
        return self.center.double().abs() / (2 * math.pi)

    def bandwidths_hz(self) -> Tensor:
        """Compute sigma in Hz, float64, shape (num_filters,)."""
        return torch.exp(0.5 * self._ln_sigma2()) / (2 * math.pi)

    def impulse_response(self, time: Tensor) -> Tensor:
        """Evaluate h(t), which is 2 pi times the inverse Fourier transform of H.

        Args:
            time: Instants in seconds, float64, any shape.

        Returns:
            Values in rad/s, float64, shape (num_filters, *time.shape).
        """
        center, phase, sigma2 = self._columns(time.dim())
        envelope = 2 * torch.sqrt(2 * math.pi * sigma2) * torch.exp(-0.5 * sigma2 * time**2)
        return envelope * torch.cos(center * time + phase)

    def frequency_response(self, angular_frequency: Tensor) -> Tensor:
        """Evaluate H(w).

        Args:
            angular_frequency: w in rad/s, float64, any shape.

        Returns:
            Complex gains, complex128, shape (num_filters, *angular_frequency.shape).
        """
        center, phase, sigma2 = self._columns(angular_frequency.dim())
        above = torch.exp(-0.5 * (angular_frequency - center) ** 2 / sigma2)
        below = torch.exp(-0.5 * (angular_frequency + center) ** 2 / sigma2)
        # e^{j phi} a + e^{-j phi} b in Cartesian form
        return torch.complex(torch.cos(phase) * (above + below), torch.sin(phase) * (above - below))

    def _ln_sigma2(self) -> Tensor:
        return self.ln_sigma2.double().clamp_min(_MIN_LN_SIGMA2)

    def _columns(self, trailing_dims: int) -> tuple[Tensor, Tensor, Tensor]:
        shape = (-1, *([1] * trailing_dims))
        sigma2 = torch.exp(self._ln_sigma2())
        return (
            self.center.double().view(shape),
            self.phase.double().view(shape),
            sigma2.view(shape),
        )


class MultiPhaseGammatoneFilters(AnalogFilters):
    """Gammatone filters of order 2, several phases per centre frequency.

        h(t) = t^{n-1} exp(-2 pi b t) cos(2 pi f t + phi) for t >= 0, n = 2,
        b = (24.7 + f / 9.265) / (pi (2n-2)! 2^{-(2n-2)} / ((n-1)!)^2).
    Half of the filters have phases phi; the other half repeats them with phases phi + pi.

    Args:
        num_filters: Number of filters N, even.
        num_centers: Number of centre frequencies; the N / 2 phases are distributed over them.
        lowest_hz: First centre at initialisation, in Hz.
        highest_hz: Last centre at initialisation, in Hz.

    Raises:
        ConfigError: `num_filters` is odd, or too small for `num_centers`.

    Source: Ditter and Gerkmann 2020; Saito et al. 2022, section III-C.
    """

    causal = True
    equal_energy = True
    order = 2
    center_repeats: Tensor

    def __init__(
        self,
        num_filters: int,
        *,
        num_centers: int = 96,
        lowest_hz: float = 50.0,
        highest_hz: float = 16000.0,
    ) -> None:
        super().__init__()
        if num_filters % 2 or not 0 < num_centers <= num_filters // 2:
            msg = (
                "multi-phase gammatone filters need an even num_filters and 1 <= num_centers <= "
                f"num_filters / 2, got num_filters={num_filters}, num_centers={num_centers}"
            )
            raise ConfigError(msg)
        centers = erb_spaced(lowest_hz=lowest_hz, highest_hz=highest_hz, count=num_centers)
        least, extra = divmod(num_filters // 2, num_centers)
        repeats = [least + (1 if i < extra else 0) for i in range(num_centers)]
        phases = torch.cat([torch.linspace(0, math.pi, count) for count in repeats])
        self.center_hz = nn.Parameter(centers.float())
        self.phase = nn.Parameter(phases)
        self.register_buffer("center_repeats", torch.tensor(repeats))

    @classmethod
    def from_settings(cls, settings: FilterSettings) -> Self:
        """Build a bank with its initial parameters; see `AnalogFilters.from_settings`."""
        return cls(
            settings.num_filters,
            num_centers=settings.num_centers,
            lowest_hz=settings.lowest_hz,
            highest_hz=settings.highest_hz,
        )

    @property
    def num_filters(self) -> int:
        """Number of filters."""
        return 2 * self.phase.numel()

    def centers_hz(self) -> Tensor:
        """Compute the centre frequency of every filter in Hz, float64, shape (num_filters,)."""
        return (
            self.center_hz.double()
            .repeat_interleave(self.center_repeats, output_size=self.phase.numel())
            .repeat(2)
        )

    def bandwidths_hz(self) -> Tensor:
        """Compute the decay rate b of every filter in Hz, float64, shape (num_filters,)."""
        n = self.order
        factor = math.pi * math.factorial(2 * n - 2) * 2.0 ** (2 - 2 * n)
        factor /= math.factorial(n - 1) ** 2
        return (_ERB_MIN_WIDTH + self.centers_hz() / _ERB_QUALITY) / factor

    def impulse_response(self, time: Tensor) -> Tensor:
        """Evaluate h(t); zero for t < 0.

        Args:
            time: Instants in seconds, float64, any shape.

        Returns:
            Values, float64, shape (num_filters, *time.shape).
        """
        shape = (-1, *([1] * time.dim()))
        phase = self.phase.double()
        phases = torch.cat([phase, phase + math.pi]).view(shape)
        decay = 2 * math.pi * self.bandwidths_hz().view(shape)
        time = time.clamp_min(0.0)  # t^{n-1} makes h(0) = 0, so this is the causal filter
        envelope = time ** (self.order - 1) * torch.exp(-decay * time)
        carrier = torch.cos(2 * math.pi * self.centers_hz().view(shape) * time + phases)
        return envelope * carrier


FILTERS: dict[str, type[AnalogFilters]] = {
    "modulated-gaussian": ModulatedGaussianFilters,
    "multi-phase-gammatone": MultiPhaseGammatoneFilters,
}


def make_filters(kind: str, settings: FilterSettings) -> AnalogFilters:
    """Build a bank of analog filters by name.

    Args:
        kind: Name in `FILTERS`.
        settings: Number of filters and their frequencies.

    Returns:
        The bank with its initial parameters.

    Raises:
        ConfigError: There is no such kind, or the settings do not fit it.
    """
    if kind not in FILTERS:
        msg = f"analog filters: expected one of {', '.join(FILTERS)}, got {kind!r}"
        raise ConfigError(msg)
    return FILTERS[kind].from_settings(settings)
