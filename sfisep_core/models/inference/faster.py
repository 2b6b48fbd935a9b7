"""The one way to a model for inference: what is fused, folded or threaded, and where."""

import copy

from torch import nn

from sfisep_core.models.blocks.tcn import MaskNetwork
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.inference.folding import fold_batch_norms
from sfisep_core.models.inference.fused_tcn import FusedMaskNetwork, can_fuse
from sfisep_core.models.inference.side_by_side import ChannelsSideBySide
from sfisep_core.models.mask_model import MaskModel


def faster(model: MaskModel, *, compiled: bool = False) -> SeparationModel:
    """Make an equivalent model that separates faster.

    On CPUs channels run side by side, and the network is fused, unless a compiler is to do that;
    elsewhere, and for compilers, batch norms are folded into convolutions.

    Args:
        model: A model whose masker is a `MaskNetwork`, in evaluation mode, on its device; it is
            left as it is.
        compiled: Leave it in operations that a compiler fuses.

    Returns:
        The faster model. It separates as the given one does, but for rounding; its weights are not
        for files, and may be shared with the given one.
    """
    on_cpu, masker = next(model.parameters()).device.type == "cpu", model.masker
    if not isinstance(masker, MaskNetwork):  # it is a faster one already
        return model
    result = model
    if on_cpu and not compiled and can_fuse(masker):
        result = copy.deepcopy(model).eval()
        masker = result.masker
        assert isinstance(masker, MaskNetwork)
        result.masker = FusedMaskNetwork(masker)
        result.contiguous_latent = False
    elif any(isinstance(module, nn.BatchNorm1d) for module in masker.modules()):
        result = fold_batch_norms(model)
    return ChannelsSideBySide(result) if on_cpu else result


def side_by_side(model: SeparationModel) -> SeparationModel:
    """Let channels run side by side on CPUs where a model takes them one by one anyway.

    Args:
        model: Any model; it is not copied.

    Returns:
        A model of the same weights, whose stems are the same to the last bit.
    """
    one_by_one = isinstance(model, MaskModel) and model.one_by_one
    return ChannelsSideBySide(model) if one_by_one else model
