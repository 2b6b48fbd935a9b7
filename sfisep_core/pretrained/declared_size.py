"""Compare what a model file says of itself with the weights that are in it."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules import module as registration

from sfisep_core.errors import CheckpointError
from sfisep_core.models.registry import describe_weights


def check_declared_size(
    family: str, config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], *, where: str
) -> None:
    """Refuse settings of another model than the one whose weights lie beside them.

    The model is built without memory for its weights, and given up as soon as it has more of them
    than the file: settings that ask for 1e9 layers cost no more than the file is worth.

    Args:
        family: Name of the family.
        config: Its settings.
        shapes: Shape of each weight in the file, by name.
        where: What is wrong otherwise, for the message.

    Raises:
        CheckpointError: The settings make other weights, by name or shape.
        ConfigError: The settings are none of the family.
    """
    with _at_most(len(shapes), where):
        expected = describe_weights(family, config)
    stored = {name: torch.empty(tuple(shape), device="meta") for name, shape in shapes.items()}
    check_fit(expected, stored, where=where)


@contextmanager
def _at_most(tensors: int, where: str) -> Iterator[None]:
    """Refuse to build, in this thread, a module of many more parts than there are weights."""
    most = 4 * tensors + 100  # what is registered twice, and modules without weights
    thread = threading.get_ident()
    left = {"modules": most, "weights": most}

    def count(kind: str) -> None:
        if threading.get_ident() != thread:
            return
        left[kind] -= 1
        if left[kind] < 0:
            msg = f"{where}: its settings ask for more than {most} {kind}, it has {tensors} weights"
            raise CheckpointError(msg)

    hooks = (
        registration.register_module_parameter_registration_hook(lambda *_: count("weights")),
        registration.register_module_module_registration_hook(lambda *_: count("modules")),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def check_fit(expected: Mapping[str, Tensor], found: object, *, where: str) -> None:
    """Refuse weights that are not those of a model.

    Args:
        expected: The model's own weights by name.
        found: What is to be loaded in their place.
        where: What is wrong otherwise, for the message.

    Raises:
        CheckpointError: `found` is no mapping, or a weight is missing, unknown, no tensor or of
            another shape; the message names the first and counts the others.
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
