"""Fold batch norms into the convolutions after them: equal outputs with fewer operations."""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from sfisep_core.foundation.float64 import to_float64
from sfisep_core.models.blocks.tcn import MaskNetwork, TCNLayer

_Model = TypeVar("_Model", bound=nn.Module)


def fold_batch_norms(model: _Model) -> _Model:
    """Build a copy for inference whose batch norms are folded into the next 1x1 convolutions.

    With running statistics a batch norm is one factor and one offset per channel, which a 1x1
    convolution that directly follows can absorb into its weights and bias. Two kinds of norm are
    kept: those before depthwise convolutions, whose zero padding comes *after* the norm (a bias
    with the folded offset would be wrong at the edges), and those whose output is used elsewhere
    too, or is not the input of a convolution.

    Args:
        model: A model with a `MaskNetwork` in it; it is not changed. Norms other than batch norms
            are kept.

    Returns:
        The copy, in evaluation mode. Its weights no longer fit its configuration: save the
        original.
    """
    folded = copy.deepcopy(model).eval()
    for module in folded.modules():
        if isinstance(module, MaskNetwork):
            module.norm_1 = _fold(module.norm_1, module.conv_in)
            module.norm_3 = _fold(module.norm_3, module.conv_out)
        elif isinstance(module, TCNLayer):
            taking = [part for part in (module.residual, module.skip) if part is not None]
            module.norm_2 = _fold(module.norm_2, *taking)
    return folded


@torch.no_grad()
def _fold(norm: nn.Module, *convolutions: nn.Conv1d) -> nn.Module:
    """Fold a norm into the convolutions that take its output; return its replacement."""
    if not isinstance(norm, nn.BatchNorm1d):
        return norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = to_float64(norm.weight) / torch.sqrt(to_float64(norm.running_var) + norm.eps)
    offset = to_float64(norm.bias) - to_float64(norm.running_mean) * factor
    for convolution in convolutions:
        _absorb(convolution, factor, offset)
    return nn.Identity()


def _absorb(convolution: nn.Conv1d, factor: Tensor, offset: Tensor) -> None:
    # Channel i of group g is channel g (in / groups) + i of the input.
    groups = convolution.groups
    like = convolution.weight
    outputs, inputs, _ = convolution.weight.shape
    weight = to_float64(convolution.weight).view(groups, outputs // groups, inputs)
    bias = (weight @ offset.view(groups, -1, 1)).flatten()
    if convolution.bias is not None:
        bias = bias + to_float64(convolution.bias)
    weight = (weight * factor.view(groups, 1, -1)).view(outputs, inputs, 1)
    convolution.weight = nn.Parameter(weight.to(like.dtype).to(like.device))
    convolution.bias = nn.Parameter(bias.to(like.dtype).to(like.device))
