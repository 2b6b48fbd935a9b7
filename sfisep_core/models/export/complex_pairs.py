"""Complex numbers as pairs of real tensors, for graphs that have none.

ONNX has no complex tensors, and families compute with complex spectra. Under `ComplexPairs` what
makes complex tensors makes pairs instead, and PyTorch's functions hand a pair that they are given
to `ComplexPair`, as they do with every class that has `__torch_function__`. So a family needs no
second version of its code, and no tracer sees a complex number.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class ComplexPairs(TorchFunctionMode):
    """A context in which functions make a `ComplexPair` where they would make a complex tensor."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a function of PyTorch."""
        del types
        if func is torch.complex:
            return ComplexPair(*args)
        if func is torch.view_as_complex:
            return ComplexPair(args[0][..., 0], args[0][..., 1])
        if func is torch.fft.rfft:
            return _rfft(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


class ComplexPair:
    """A complex tensor as two real ones; it has the operations that families need.

    Args:
        real: Real part.
        imag: Imaginary part, same shape.
    """

    def __init__(self, real: Tensor, imag: Tensor) -> None:
        self.real, self.imag = real, imag

    @property
    def shape(self) -> torch.Size:
        """Shape of the complex tensor."""
        return self.real.shape

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return an operation as a method."""
        if name.startswith("_"):  # a protocol that somebody asks for, and no operation
            raise AttributeError(name)
        if name not in _OPERATIONS:
            msg = f"{name} of complex numbers"
            raise NotImplementedError(msg)
        return lambda *args, **kwargs: _OPERATIONS[name](self, *args, **kwargs)

    def __getitem__(self, index: Any) -> "ComplexPair":
        """Take the same part of both."""
        return ComplexPair(self.real[index], self.imag[index])

    def __mul__(self, other: "Tensor | ComplexPair") -> "ComplexPair":
        """Multiply."""
        return _multiply(self, other)

    def __truediv__(self, other: Tensor) -> "ComplexPair":
        """Divide by real numbers."""
        return ComplexPair(self.real / other, self.imag / other)

    def __add__(self, other: "ComplexPair") -> "ComplexPair":
        """Add."""
        return ComplexPair(self.real + other.real, self.imag + other.imag)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        """Compare with a real number."""
        return (self.real != other) | (self.imag != 0)

    __hash__ = object.__hash__

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a function of PyTorch of which an argument is a pair."""
        del types
        operation = _OPERATIONS.get(func.__name__.strip("_"))
        if operation is None:
            msg = f"{func.__name__} of complex numbers"
            raise NotImplementedError(msg)
        return operation(*args, **(kwargs or {}))


def _multiply(first: Tensor | ComplexPair, second: Tensor | ComplexPair) -> ComplexPair:
    if not isinstance(second, ComplexPair):
        first, second = second, first
    assert isinstance(second, ComplexPair)
    if not isinstance(first, ComplexPair):
        return ComplexPair(first * second.real, first * second.imag)
    return ComplexPair(
        first.real * second.real - first.imag * second.imag,
        first.real * second.imag + first.imag * second.real,
    )


def _on_both(function: Callable[..., Tensor]) -> Callable[..., ComplexPair]:
    """Make an operation that treats both parts alike."""

    def run(pair: ComplexPair, *args: Any, **kwargs: Any) -> ComplexPair:
        return ComplexPair(
            function(pair.real, *args, **kwargs), function(pair.imag, *args, **kwargs)
        )

    return run


def _cat(pairs: Sequence[ComplexPair], dim: int = 0) -> ComplexPair:
    return ComplexPair(
        torch.cat([pair.real for pair in pairs], dim), torch.cat([pair.imag for pair in pairs], dim)
    )


def _where(condition: Tensor, pair: ComplexPair, other: float) -> ComplexPair:
    return ComplexPair(
        torch.where(condition, pair.real, other), torch.where(condition, pair.imag, 0.0)
    )


def _rfft(signals: Tensor, *, dim: int, norm: str) -> ComplexPair:
    """Compute `torch.fft.rfft` with matrices, for axes of hundreds of values at most."""
    assert norm == "ortho"
    signals, size = signals.movedim(dim, -1), signals.shape[dim]
    cosines, sines = _tones(size)
    scale = size**-0.5
    real, imag = signals @ cosines * scale, signals @ sines * -scale
    return ComplexPair(real.movedim(-1, dim), imag.movedim(-1, dim))


def _irfft(spectra: ComplexPair, *, n: int, dim: int, norm: str) -> Tensor:
    """Compute `torch.fft.irfft`; see `_rfft`."""
    assert norm == "ortho"
    cosines, sines = _tones(n)
    counts = torch.full((n // 2 + 1,), 2.0)  # all bins but the first and the last stand for two
    counts[0] = 1.0
    if n % 2 == 0:
        counts[-1] = 1.0
    weights = counts * n**-0.5
    real, imag = (part.movedim(dim, -1) * weights for part in (spectra.real, spectra.imag))
    signals: Tensor = real @ cosines.t() - imag @ sines.t()
    return signals.movedim(-1, dim)


def _tones(size: int) -> tuple[Tensor, Tensor]:
    """Compute cosines and sines of a transform of `size` values, shape (size, bins)."""
    turns = torch.arange(size)[:, None] * torch.arange(size // 2 + 1) % size
    angles = turns.float() * (2 * torch.pi / size)
    return torch.cos(angles), torch.sin(angles)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "abs": lambda pair: (pair.real.square() + pair.imag.square()).sqrt(),
    "cat": _cat,
    "fft_irfft": _irfft,
    "mul": _multiply,
    "view_as_real": lambda pair: torch.stack([pair.real, pair.imag], dim=-1),
    "where": _where,
    "flatten": _on_both(Tensor.flatten),
    "mean": _on_both(Tensor.mean),
    "pad": _on_both(functional.pad),
    "reshape": _on_both(Tensor.reshape),
    "transpose": _on_both(Tensor.transpose),
    "unsqueeze": _on_both(Tensor.unsqueeze),
}
