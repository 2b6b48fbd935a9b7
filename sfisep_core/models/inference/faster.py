"""Entry point to models for inference: chooses what is fused, folded or threaded."""

import copy

from torch import nn

from sfisep_core.models.blocks.tcn import MaskNetwork
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.inference.folding import fold_batch_norms
from sfisep_core.models.inference.fused_tcn import FusedMaskNetwork, can_fuse
from sfisep_core.models.inference.side_by_side import ChannelsSideBySide
from sfisep_core.models.mask_model import MaskModel


def faster(model: MaskModel, *, compiled: bool = False) -> SeparationModel:
    """Build an equivalent model that separates faster.

    On CPUs channels run in parallel and the network is fused, unless it is to be compiled. On other
    devices, and for compilation, batch norms are folded into convolutions.

    Args:
        model: A model whose masker is a `MaskNetwork`, in evaluation mode, on its device; it is not
            changed.
        compiled: Keep operations that a compiler can fuse.

    Returns:
        The faster model. Its stems equal those of the given one up to rounding. Its weights must
        not be saved, and may be shared with the given one.
    """
    on_cpu, masker = next(model.parameters()).device.type == "cpu", model.masker
    if not isinstance(masker, MaskNetwork):  # already a model for inference
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
    """Separate channels in parallel on CPUs where a model separates them one by one.

    Args:
        model: Any model; it is not copied.

    Returns:
        A model with the same weights, whose stems are bit-identical.
    """
    one_by_one = isinstance(model, MaskModel) and model.one_by_one
    return ChannelsSideBySide(model) if one_by_one else model
