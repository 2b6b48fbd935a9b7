"""No 64-bit number reaches a device that has none, such as an Apple GPU.

There is none here: PyTorch's fake tensors, which have shapes, types and devices but no values, are
on one. They also refuse operations on tensors of two devices.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sfisep_core.audio.resample import _sinc_resampler
from sfisep_core.audio.stft_grid import make_grid
from sfisep_core.devices import find_device
from sfisep_core.errors import ConfigError
from sfisep_core.foundation import float64
from sfisep_core.foundation.float64 import float64_device
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.registry import build_model
from sfisep_core.sfi import exact_design
from sfisep_core.training.config import TrainingConfig
from sfisep_core.training.losses import source_losses
from sfisep_core.training.state import StepStatistics
from tests.contract.test_models import VARIANTS, served

# Not "mps": where PyTorch is built without it, its autograd ends the process.
GPU = torch.device("meta")


class Guard(TorchDispatchMode):
    """Refuses operations that take or make a 64-bit number on the device, or copy one to it."""

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        on_gpu = [one for one in given + made if one.device.type == GPU.type]
        copied = given if any(one.device.type == GPU.type for one in made) else []
        # A number without axes that an operation takes from the CPU becomes one of its own type.
        copied = [one for one in copied if one.dim() or func is torch.ops.aten._to_copy.default]
        for one in on_gpu + copied:
            assert one.dtype not in (torch.float64, torch.complex128), f"{func} on {GPU}"
        return result


def _inverse_without_values(spectra: Tensor, *_: Any, length: int, **__: Any) -> Tensor:
    return spectra.real.sum(dim=(-2, -1)).unsqueeze(-1).expand(*spectra.shape[:-2], length)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A device without 64-bit numbers."""
    assert float64_device(torch.device("mps")) == torch.device("cpu")
    monkeypatch.setattr(float64, "_WITHOUT", (GPU.type,))
    # Cached taps are those of the same filters here, whose values nobody can compare.
    monkeypatch.setattr(torch, "equal", lambda *_: True)
    monkeypatch.setattr(Tensor, "__bool__", lambda _: True)  # LaSAFT: sources differ
    # It looks at the values of its windows.
    monkeypatch.setattr(torch, "istft", _inverse_without_values)
    # This device has no 16-bit arithmetic to choose from.
    autocast = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda _, **options: autocast("cpu", **options))
    caches = (make_grid, _sinc_resampler, exact_design._kept_operators)
    for cache in caches:
        cache.cache_clear()
    yield GPU
    for cache in caches:
        cache.cache_clear()  # of tensors without values


@contextmanager
def guarded() -> Iterator[None]:
    """Compute with tensors without values, and refuse 64-bit numbers on the device."""
    with FakeTensorMode(allow_non_fake_inputs=True), Guard():
        yield


def put(model: SeparationModel, device: torch.device) -> SeparationModel:
    """Put a model on the device, as `nn.Module.to` does with tensors that have values."""
    for module in model.modules():
        for name, one in module._parameters.items():
            if one is not None:
                moved = nn.Parameter(one.detach().to(device), requires_grad=one.requires_grad)
                module._parameters[name] = moved
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.to(device)
    return model


def test_guard_refuses_what_it_should(gpu: torch.device) -> None:
    with guarded():
        _check_guard(gpu)


def _check_guard(gpu: torch.device) -> None:
    there = torch.ones(2, device=gpu)
    for wrong in (
        lambda: there.double(),
        lambda: torch.ones(2, dtype=torch.float64, device=gpu),
        lambda: torch.ones(2, dtype=torch.float64).to(gpu),
        lambda: torch.ones(2, dtype=torch.float64).to(gpu, torch.float32),
        lambda: torch.complex(torch.ones(2).double(), torch.ones(2).double()).to(gpu),
    ):
        with pytest.raises((AssertionError, TypeError)):
            wrong()
    assert (torch.ones(2).double().float().to(gpu) + there).device == gpu


@pytest.mark.slow
@pytest.mark.no_cover  # counting lines takes half as long again
@pytest.mark.parametrize("variant", VARIANTS)
def test_families_separate(variant: str, gpu: torch.device) -> None:
    family, config = VARIANTS[variant]
    model = build_model(family, config).eval()
    # Not the native one, where a family works at others.
    rate = served(model, 44100)
    with guarded(), torch.no_grad():
        model = put(model, gpu).for_inference()
        mixture = torch.zeros(1, 2, rate // 50, device=gpu)
        stems = model(mixture, sample_rate=rate)
    assert (stems.shape, stems.device) == ((1, len(model.sources), *mixture.shape[1:]), gpu)


# One variant of each family: their norms and masks separate above.
@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize(
    "variant", {family: name for name, (family, _) in VARIANTS.items()}.values()
)
def test_families_train(variant: str, gpu: torch.device) -> None:
    family, config = VARIANTS[variant]
    model = build_model(family, config).train()
    with guarded():
        _train(put(model, gpu), gpu)


def _train(model: SeparationModel, gpu: torch.device) -> None:
    stages = len(model.stage_rates) + 1
    stems = torch.zeros(1, len(model.sources), 2, model.native_rate // 50, device=gpu)
    estimates = model(stems.sum(dim=1), sample_rate=model.native_rate)
    settings = TrainingConfig()
    losses = source_losses(
        settings.loss,
        estimates=estimates[:, -len(model.sources) :],
        references=stems,
        sample_rate=model.native_rate,
        sources=model.sources,
        floor_db=settings.floor_db,
        window_seconds=settings.window_seconds,
        dissimilarity=settings.dissimilarity,
    )
    assert estimates.shape[1] == stages * len(model.sources)
    trained = [one for one in model.parameters() if one.requires_grad]
    if trained:  # super-resolution by shares has no weights of its own
        losses.sum().backward()
        gradients = [one.grad for one in trained if one.grad is not None]
        assert {gradient.device for gradient in gradients} == {gpu}
    statistics = StepStatistics(gpu)
    statistics.add(losses.sum().detach(), torch.isfinite(losses.sum()))


def test_unknown_and_missing_devices_are_refused() -> None:
    if not torch.backends.mps.is_available():
        with pytest.raises(ConfigError, match="device mps: not there"):
            find_device("mps")
    with pytest.raises(ConfigError, match="pass cpu, cuda or mps"):
        find_device("meta")
