"""SFI convolution and transposed convolution.

Gain. With the published time-domain taps the encoder's gain is proportional to F, and with the
frequency-domain taps the decoder's gain is proportional to 1 / F: the number of samples that a
strided convolution sums per frame grows with F, while the number of frames that a transposed
convolution sums per sample does not. In exact mode these factors keep the gains at their values at
F0:

                 encoder    decoder
    time         F0 / F     1
    frequency    1          F / F0

Source: Saito et al. 2022, section III.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sfisep_core.errors import ConfigError
from sfisep_core.foundation.float64 import float64_device
from sfisep_core.sfi.filter_bank import AnalogFilters
from sfisep_core.sfi.frame_grid import Alignment, FrameGrid, frame_grid, release_is_exact
from sfisep_core.sfi.frequency_design import frequency_design
from sfisep_core.sfi.time_design import NyquistRule, time_design

Design = Literal["frequency", "time"]


class _SFILayer(nn.Module):
    """Common part of both convolutions: analog filters, their taps at a rate, a cache of taps.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output; there is one analog filter per pair of channels.
        filters: in_channels * out_channels analog filters, varying fastest over in_channels for
            the convolution and over out_channels for the transposed one.
        design: "frequency" (filters with a frequency response only) or "time".
        native_rate: F0 in Hz at which kernel_size and stride are counted.
        kernel_size: K0, taps at F0.
        stride: S0, samples at F0.
        alignment: "exact" or "release"; see `frame_grid`. At rates where kernel or stride is not a
            whole number of samples, "release" is the same as "exact".
        nyquist_rule: Time design: what happens to filters near F / 2; see `nyquist_weights`.
        num_response_samples: Frequency design in release mode: smallest M.

    Raises:
        ConfigError: Settings contradict each other.
    """

    _kind: Literal["encoder", "decoder"]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        filters: AnalogFilters,
        *,
        design: Design,
        native_rate: int = 32000,
        kernel_size: int = 160,
        stride: int = 80,
        alignment: Alignment = "exact",
        nyquist_rule: NyquistRule = "mask",
        num_response_samples: int = 640,
    ) -> None:
        super().__init__()
        if min(native_rate, kernel_size, stride) < 1 or num_response_samples < 2:
            msg = (
                "SFI layer: expected native_rate, kernel_size and stride of at least 1 and "
                f"num_response_samples of at least 2, got {native_rate}, {kernel_size}, {stride} "
                f"and {num_response_samples}"
            )
            raise ConfigError(msg)
        if filters.num_filters != in_channels * out_channels:
            msg = (
                f"SFI layer with {in_channels} input and {out_channels} output channels: expected "
                f"{in_channels * out_channels} analog filters, got {filters.num_filters}"
            )
            raise ConfigError(msg)
        if nyquist_rule == "taper" and alignment == "release":
            msg = 'SFI layer: nyquist_rule "taper" needs alignment "exact", got "release"'
            raise ConfigError(msg)
        if design == "frequency" and not filters.has_frequency_response():
            msg = (
                "SFI layer: frequency-domain design needs analog filters with a frequency "
                f'response, got {type(filters).__name__}: use design="time"'
            )
            raise ConfigError(msg)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.filters = filters
        self.design = design
        self.native_rate = native_rate
        self.kernel_size = kernel_size
        self.stride = stride
        self.alignment = alignment
        self.nyquist_rule = nyquist_rule
        self.num_response_samples = num_response_samples
        self._cache: dict[
            tuple[int, torch.device, torch.dtype], tuple[tuple[Tensor, ...], Tensor]
        ] = {}

    def grid(self, sample_rate: int) -> FrameGrid:
        """Compute the frame positions at `sample_rate` Hz."""
        sizes = {
            "native_rate": self.native_rate,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
        }
        return frame_grid(
            sample_rate=sample_rate,
            alignment=self.alignment
            if release_is_exact(sample_rate=sample_rate, **sizes)
            else "exact",
            anchor=Fraction(-1, 2) if self.design == "time" else Fraction(0),
            **sizes,
        )

    def taps(self, sample_rate: int) -> Tensor:
        """Return the layer's taps as `conv1d` takes them (time-reversed impulse responses).

        Without gradients (`eval()` under `no_grad`) they are cached per rate, device and dtype for
        as long as the parameters are unchanged. With gradients they are computed on every call.

        Args:
            sample_rate: F in Hz.

        Returns:
            Shape (num_sets, in_channels * out_channels, num_taps), in the parameters' dtype.
        """
        if self.training or torch.is_grad_enabled():
            return self._build_taps(sample_rate)
        key = (sample_rate, self.filters.device, self.filters.dtype)
        # Values are compared, because version counters and addresses miss changes: writing to
        # `.data` does not raise the version, and `.half().float()` may store new values at the old
        # address.
        parameters = self.filters.tap_parameters()
        if key not in self._cache or not all(map(torch.equal, parameters, self._cache[key][0])):
            built_from = tuple(tensor.clone() for tensor in parameters)
            self._cache[key] = (built_from, self._build_taps(sample_rate))
        return self._cache[key][1]

    def train(self, mode: bool = True) -> "_SFILayer":
        """Set training mode and drop the cached taps."""
        self._cache.clear()
        super().train(mode)
        return self

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], *args: Any) -> None:
        self._cache.clear()
        super()._load_from_state_dict(state_dict, *args)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {**state, "_cache": {}}  # copies and pickles do not contain the cached taps

    def _build_taps(self, sample_rate: int) -> Tensor:
        grid = self.grid(sample_rate)
        exact = bool(grid.shifts)
        filters = self.filters.moved(float64_device(self.filters.device))
        if self.design == "frequency":
            taps = frequency_design(
                filters,
                grid,
                native_rate=self.native_rate,
                num_response_samples=self.num_response_samples,
            )
            gain = sample_rate / self.native_rate if self._kind == "decoder" and exact else 1.0
        else:
            taps = time_design(
                filters,
                grid,
                native_rate=self.native_rate,
                kernel_size=self.kernel_size,
                nyquist_rule=self.nyquist_rule,
            )
            gain = self.native_rate / sample_rate if self._kind == "encoder" and exact else 1.0
        # y = sum_p h[p] x[n0 - p]: conv1d computes a correlation, so h is in descending order of p.
        taps = (gain * taps.flip(-1)).to(self.filters.dtype)
        return taps.to(self.filters.device).contiguous()


class SFIConv1d(_SFILayer):
    """Strided convolution with analog filters: from samples at any rate to frames at a fixed one.

    Shape:
        - Input: (batch, in_channels, time) at sample_rate Hz
        - Output: (batch, out_channels, ceil(time F0 / (F S0)))

    >>> from sfisep_core.sfi.analog_filters import ModulatedGaussianFilters
    >>> layer = SFIConv1d(1, 8, ModulatedGaussianFilters(8), design="frequency")
    >>> layer(torch.zeros(2, 1, 44100), sample_rate=44100).shape
    torch.Size([2, 8, 400])
    """

    _kind = "encoder"

    def forward(self, signal: Tensor, *, sample_rate: int) -> Tensor:
        """Compute frames of a signal.

        Args:
            signal: Shape (batch, in_channels, time).
            sample_rate: Sampling frequency of the signal in Hz.

        Returns:
            Frames, shape (batch, out_channels, frames), frames = ceil(time / stride at F).
        """
        grid, taps = self.grid(sample_rate), self.taps(sample_rate)
        taps = taps.view(taps.shape[0], self.out_channels, self.in_channels * grid.num_taps)
        num_frames = grid.num_frames(signal.shape[-1])
        if num_frames == 0:
            return signal.new_zeros(signal.shape[0], self.out_channels, 0)
        per_phase = -(-num_frames // grid.num_phases)
        left = max(0, -min(grid.starts))
        span = (per_phase - 1) * grid.period + grid.num_taps
        right = max(0, max(grid.starts) + span - signal.shape[-1])
        padded = functional.pad(signal, (left, right))
        phases = []
        for start, tap_set in zip(grid.starts, grid.tap_sets, strict=True):
            # conv1d as a matrix product: several times as fast on CPUs for one input channel
            part = padded.narrow(-1, start + left, span).unfold(-1, grid.num_taps, grid.period)
            phases.append(part.transpose(1, 2).flatten(2) @ taps[tap_set].t())
        frames = torch.stack(phases, dim=2).flatten(1, 2) if grid.num_phases > 1 else phases[0]
        return frames[:, :num_frames].transpose(1, 2)


class SFIConvTranspose1d(_SFILayer):
    """Transposed SFI convolution: from frames at a fixed rate to samples at any rate.

    With equal filters it is the adjoint of `SFIConv1d` (up to the gain factors).

    Shape:
        - Input: (batch, in_channels, frames)
        - Output: (batch, out_channels, length)
    """

    _kind = "decoder"

    def forward(self, frames: Tensor, *, sample_rate: int, length: int) -> Tensor:
        """Compute samples from frames.

        Args:
            frames: Shape (batch, in_channels, frames).
            sample_rate: Sampling frequency of the output in Hz.
            length: Samples to return; ceil(length / stride at F) must be the number of frames.

        Returns:
            Signal, shape (batch, out_channels, length).

        Raises:
            ConfigError: `length` does not match the number of frames.
        """
        grid, taps = self.grid(sample_rate), self.taps(sample_rate)
        # On CPUs, products with a multiple of 16 columns are 1.5 times as fast.
        width = -(-grid.num_taps // 16) * 16
        taps = functional.pad(taps, (0, width - grid.num_taps))
        taps = taps.view(taps.shape[0], self.in_channels, self.out_channels * width)
        num_frames = frames.shape[-1]
        if grid.num_frames(length) != num_frames:
            msg = (
                f"SFI synthesis at {sample_rate} Hz: {length} samples belong to "
                f"{grid.num_frames(length)} frames, got {num_frames}"
            )
            raise ConfigError(msg)
        if num_frames == 0:
            return frames.new_zeros(frames.shape[0], self.out_channels, 0)
        per_phase = -(-num_frames // grid.num_phases)
        left = max(0, -min(grid.starts))
        pieces = -(-grid.num_taps // grid.period)
        rows = per_phase + pieces - 1
        total = left + max(length, max(grid.starts) + rows * grid.period)
        output = frames.new_zeros(frames.shape[0], self.out_channels, total)
        for phase, (start, tap_set) in enumerate(zip(grid.starts, grid.tap_sets, strict=True)):
            # conv_transpose1d as a matrix product, much faster on CPUs. Frames of one phase are one
            # period apart, so they are overlap-added as rows of this length.
            part = frames[..., phase :: grid.num_phases].transpose(1, 2) @ taps[tap_set]
            part = part.view(*part.shape[:2], self.out_channels, width)[..., : grid.num_taps]
            part = part.transpose(1, 2)
            count = part.shape[2]
            sums = output.narrow(-1, start + left, rows * grid.period)
            sums = sums.view(*sums.shape[:2], rows, grid.period)
            for piece in range(pieces):
                some = part[..., piece * grid.period : (piece + 1) * grid.period]
                sums[..., piece : piece + count, : some.shape[-1]] += some
        return output[..., left : left + length]
