"""Compare a model file's description with the weights in it."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration
from torch.overrides import TorchFunctionMode

from sfisep_core.errors import CheckpointError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.registry import build_model


def build_declared(
    family: str, config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], *, where: str
) -> SeparationModel:
    """Build the model that a file describes, if its weights match those in the file.

    The build is aborted as soon as the model has more weights than the file, so that settings with
    many layers cannot exhaust memory. Layers register a weight before they fill it, and unfilled
    memory is not committed. (PyTorch's "meta" device would need no memory at all, but its first use
    imports SymPy and more, which takes longer than the rest of a short separation.)

    Args:
        family: Name of the family.
        config: Its settings.
        shapes: Shape of each weight in the file, by name.
        where: Start of the error message.

    Returns:
        The model in training mode, with arbitrary weights: load those of the file into it.

    Raises:
        CheckpointError: The settings result in other weights, by name or shape.
        ConfigError: The settings are invalid for the family.
    """
    with _no_more_than(shapes, where), Unfilled():
        model = build_model(family, config)
    stored = {name: torch.empty(tuple(shape), device="meta") for name, shape in shapes.items()}
    check_fit(model.state_dict(), stored, where=where)
    return model


class Unfilled(TorchFunctionMode):
    """Leave weights unfilled in this thread: random numbers for 10 million of them take 0.2 s."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the weight as it is in place of filling it."""
        del types
        named = kwargs or {}
        if func in (Tensor.uniform_, Tensor.normal_):
            return args[0]
        if func is nn.init.kaiming_uniform_:  # it calls `uniform_` where no mode sees it
            return named["tensor"] if "tensor" in named else args[0]
        return func(*args, **named)


@contextmanager
def _no_more_than(shapes: Mapping[str, Sequence[int]], where: str) -> Iterator[None]:
    """Prevent, in this thread, building a module much larger than weights of these shapes."""
    tensors, values = len(shapes), sum(map(math.prod, shapes.values()))
    most = 4 * tensors + 100  # tolerance for shared weights and modules without weights
    left = {"modules": most, "weights": most, "values": 4 * values + 10_000}
    limits = dict(left)

    def count(kind: str, number: int = 1) -> None:
        left[kind] -= number
        if left[kind] < 0:
            msg = (
                f"{where}: its settings ask for more than {limits[kind]} {kind}, it has {tensors} "
                f"weights of {values} values"
            )
            raise CheckpointError(msg)

    def count_weight(values: int) -> None:
        count("weights")
        count("values", values)

    with watch_building(count_weight, lambda: count("modules")):
        yield


@contextmanager
def watch_building(
    of_weight: Callable[[int], None], of_module: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Observe how modules are built in this thread; an exception of a callback aborts it.

    Args:
        of_weight: Called with the number of values of a weight, before it is filled.
        of_module: Called for every module that becomes part of another.
    """
    thread = threading.get_ident()

    def take_weight(module: nn.Module, name: str, weight: Tensor | None) -> None:
        del module, name
        if threading.get_ident() == thread:
            of_weight(0 if weight is None else weight.numel())

    def take_module(*_: object) -> None:
        if threading.get_ident() == thread:
            of_module()

    hooks = (
        registration.register_module_parameter_registration_hook(take_weight),
        registration.register_module_module_registration_hook(take_module),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def check_fit(expected: Mapping[str, Tensor], found: object, *, where: str) -> None:
    """Check that weights match those of a model.

    Args:
        expected: The model's own weights by name.
        found: The weights to load.
        where: Start of the error message.

    Raises:
        CheckpointError: `found` is not a mapping, or a weight is missing, unknown, not a tensor or
            of another shape; the message names the first and counts the others.
    """
    if not isinstance(found, Mapping):
        msg = f"{where}: expected weights by name, found {type(found).__name__}"
        raise CheckpointError(msg)
    misfits = [f"weight {name} is missing" for name in expected if name not in found]
    misfits += [f"weight {name} is unknown to the model" for name in found if name not in expected]
    for name in (name for name in expected if name in found):
        if not isinstance(found[name], Tensor):
            misfits.append(f"weight {name} is no tensor")
        elif found[name].shape != expected[name].shape:
            misfits.append(
                f"size mismatch of weight {name}: expected {list(expected[name].shape)}, "
                f"found {list(found[name].shape)}"
            )
    if misfits:
        others = f" (and {len(misfits) - 1} more)" if len(misfits) > 1 else ""
        msg = f"{where}: {misfits[0]}{others}"
        raise CheckpointError(msg)
