"""Spleeter as its authors describe it, written down a second time, without this package.

Layouts, padding and order of operations are TensorFlow's; weights are named as in its checkpoints.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_input

N_FFT, HOP, FRAMES, BINS = 4096, 1024, 512, 1024
CHANNELS = (2, 3, 2, 4, 3, 5)

Weights = Mapping[str, NDArray[np.generic]]


def random_weights(count: int, *, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """Draw a checkpoint of `count` small networks."""
    draw = np.random.default_rng(seed)
    found: dict[str, NDArray[np.generic]] = {"global_step": np.array(7, dtype=np.int64)}

    def name(layer: str, number: int) -> str:
        return f"{layer}_{number}" if number else layer

    def kernel(layer: str, shape: tuple[int, ...], outputs: int, inputs: int) -> None:
        size = shape[0] * shape[1] * inputs
        values = draw.standard_normal(shape) * math.sqrt(2 / size)
        found[f"{layer}/kernel"] = values.astype(np.float32)
        found[f"{layer}/bias"] = (0.1 * draw.standard_normal(outputs)).astype(np.float32)

    def norm(number: int, size: int) -> None:
        layer = name("batch_normalization", number)
        for part in ("gamma", "moving_variance"):
            found[f"{layer}/{part}"] = draw.uniform(0.5, 1.5, size).astype(np.float32)
        for part in ("beta", "moving_mean"):
            found[f"{layer}/{part}"] = (0.1 * draw.standard_normal(size)).astype(np.float32)

    inward = CHANNELS[::-1]
    for i in range(count):
        for level, (inputs, outputs) in enumerate(zip((2, *CHANNELS), CHANNELS, strict=False)):
            kernel(name("conv2d", 7 * i + level), (5, 5, inputs, outputs), outputs, inputs)
            norm(12 * i + level, outputs)
        kernel(name("conv2d", 7 * i + 6), (4, 4, 1, 2), 2, 1)
        for level, outputs in enumerate((*inward[1:], 1)):
            inputs = inward[level] * (1 if level == 0 else 2)
            layer = name("conv2d_transpose", 6 * i + level)
            kernel(layer, (5, 5, outputs, inputs), outputs, inputs)
            norm(12 * i + 6 + level, outputs)
    return found


def separate(weights: Weights, mixture: Tensor, *, count: int) -> Tensor:
    """Separate a mixture of shape (2, time) in 64 bits; give (instrument, 2, time)."""
    length = mixture.shape[1]
    # One frame of zeros before, and the end filled up.
    frames = math.ceil((length + N_FFT) / HOP)
    padded = torch.zeros(2, (frames - 1) * HOP + N_FFT, dtype=torch.float64)
    padded[:, N_FFT : N_FFT + length] = mixture
    window = torch.from_numpy(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT))
    spectra = torch.fft.rfft(padded.unfold(1, N_FFT, HOP) * window)  # (2, frames, bins)
    magnitudes = spectra.abs().permute(1, 2, 0)[:, :BINS]  # (frames, bins, 2)
    patches = torch.zeros(-(-frames // FRAMES) * FRAMES, BINS, 2, dtype=torch.float64)
    patches[:frames] = magnitudes
    patches = patches.view(-1, FRAMES, BINS, 2)
    elu = count > 2
    logits = torch.stack([_network(weights, patches, i, elu=elu) for i in range(count)])
    shares = torch.softmax(logits, dim=0) if count == 5 else torch.sigmoid(logits)
    powers = (shares * patches).square()
    masks = (powers + 1e-10 / count) / (powers.sum(dim=0) + 1e-10)
    masks = masks.flatten(1, 2)[:, :frames]  # (instrument, frames, bins, 2)
    masks = functional.pad(masks, (0, 0, 0, N_FFT // 2 + 1 - BINS))
    parts = torch.fft.irfft(masks.permute(0, 3, 1, 2) * spectra) * window * (2 / 3)
    stems = torch.zeros(count, 2, padded.shape[1], dtype=torch.float64)
    for frame in range(frames):
        stems[:, :, frame * HOP : frame * HOP + N_FFT] += parts[:, :, frame]
    return stems[:, :, N_FFT : N_FFT + length]


def _network(weights: Weights, patches: Tensor, i: int, *, elu: bool) -> Tensor:
    """Give logits of instrument i, shape (patch, frames, bins, 2)."""

    def get(layer: str, number: int, part: str) -> Tensor:
        key = f"{layer}_{number}/{part}" if number else f"{layer}/{part}"
        return torch.from_numpy(np.asarray(weights[key], dtype=np.float64))

    def norm(x: Tensor, number: int) -> Tensor:
        gamma, beta, mean, variance = (
            get("batch_normalization", 12 * i + number, part)[:, None, None]
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (x - mean) / torch.sqrt(variance + 1e-3) + beta

    down: Callable[[Tensor], Tensor] = functional.elu if elu else lambda x: torch.max(x, 0.2 * x)
    up: Callable[[Tensor], Tensor] = functional.elu if elu else lambda x: x.clamp(min=0)

    def convolve(x: Tensor, number: int, *, stride: int = 1, dilation: int = 1) -> Tensor:
        kernel = get("conv2d", 7 * i + number, "kernel").permute(3, 2, 0, 1)
        x = functional.pad(x, _same(x, kernel.shape[-1], stride, dilation))
        bias = get("conv2d", 7 * i + number, "bias")
        return functional.conv2d(x, kernel, bias, stride=stride, dilation=dilation)

    def double(x: Tensor, number: int) -> Tensor:
        # The gradient of the convolution that makes this size from twice of it.
        kernel = get("conv2d_transpose", 6 * i + number, "kernel").permute(3, 2, 0, 1)
        batch, _, frames, bins = x.shape
        large = torch.zeros(batch, kernel.shape[1], 2 * frames, 2 * bins)
        left, right, top, bottom = _same(large, 5, 2, 1)
        size = (batch, kernel.shape[1], 2 * frames + top + bottom, 2 * bins + left + right)
        y = conv2d_input(size, kernel, x, stride=2)
        y = y[:, :, top : top + 2 * frames, left : left + 2 * bins]
        return y + get("conv2d_transpose", 6 * i + number, "bias")[:, None, None]

    x, skips = patches.permute(0, 3, 1, 2), []
    for level in range(6):
        x = convolve(x, level, stride=2)
        skips.append(x)
        x = down(norm(x, level))
    x = skips.pop()
    for level in range(6):
        x = norm(up(double(x, level)), 6 + level)
        if skips:
            x = torch.cat([skips.pop(), x], dim=1)
    return convolve(x, 6, dilation=2).permute(0, 2, 3, 1)


def _same(x: Tensor, size: int, stride: int, dilation: int) -> tuple[int, int, int, int]:
    """Give the zeros of "same": left, right, top, bottom."""
    sides: list[int] = []
    for length in (x.shape[-1], x.shape[-2]):
        reach = dilation * (size - 1) + 1
        total = max((-(-length // stride) - 1) * stride + reach - length, 0)
        sides += [total // 2, total - total // 2]
    left, right, top, bottom = sides
    return left, right, top, bottom
