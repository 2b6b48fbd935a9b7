"""The mask network on a CPU: equal masks with fewer passes over memory.

The grouped networks are run one after the other, so that less memory is used at a time; features
have the layout (frame, channel). Operations between two matrix products work on blocks of frames
that stay in the cache. A norm becomes one factor and one offset per channel, which the next
convolution absorbs into its weights; only the sums for its statistics remain to be computed.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from sfisep_core.models.blocks.norms import GlobalNorm, WindowNorm, normalize_windows
from sfisep_core.models.blocks.tcn import MaskNetwork, TCNLayer
from sfisep_core.models.inference.fused_norms import (
    FoldedNorm,
    Scratch,
    Sums,
    activate,
    multiply_add,
)

# Frames of a block: with 160 channels a block is a third of a 1 MiB cache.
_BLOCK = 512


def can_fuse(network: MaskNetwork) -> bool:
    """Tell whether all norms after the first are of kinds that can be folded into convolutions."""
    norms = [module for module in network.modules() if isinstance(module, WindowNorm)]
    return all(norm is network.norm_1 for norm in norms)


class FusedMaskNetwork(nn.Module):
    """A `MaskNetwork` for inference on CPUs, equal to it up to rounding.

    Args:
        network: The network, for which `can_fuse` is true, in evaluation mode; later changes of its
            weights have no effect.

    Shape:
        - Input: (batch, num_features, frames)
        - Output: (batch, num_sources, num_features, frames), with features adjacent in memory.
          Under autocast to a 16-bit type, features inside the network have that type, and masks are
          float32.
    """

    def __init__(self, network: MaskNetwork) -> None:
        super().__init__()
        self.network = network
        self._prepared: dict[torch.dtype, list[_Network]] = {}

    @torch.no_grad()
    def forward(self, latent: Tensor) -> Tensor:
        """Estimate masks; see the class."""
        kind, networks = self.prepare()
        batch, features, frames = latent.shape
        outputs = self.network.num_sources * features // len(networks)
        raw = latent.new_empty(batch, len(networks), frames, outputs)
        masks = raw.view(batch, len(networks), frames, -1, features).transpose(2, 3).flatten(1, 2)
        with torch.autocast("cpu", enabled=False):
            for item, item_outputs, part in zip(latent, raw, masks, strict=True):
                shared = _SharedInput(self.network, item, kind)
                for network, result in zip(networks, item_outputs, strict=True):
                    network.run(shared, result)
                for block in torch.split(part, _BLOCK, dim=1) if self.network.softmax else ():
                    block.copy_(block.softmax(dim=0))
        return masks.transpose(2, 3)  # (B, S, N, frames)

    def prepare(self) -> tuple[torch.dtype, "list[_Network]"]:
        """Return the dtype of features inside the network, and the networks, prepared once."""
        low = torch.is_autocast_enabled("cpu")
        kind = torch.get_autocast_dtype("cpu") if low else torch.float32
        if kind not in self._prepared:
            count = self.network.networks
            self._prepared[kind] = [_Network(self.network, n, kind) for n in range(count)]
        return kind, self._prepared[kind]

    def __getstate__(self) -> dict[str, object]:
        """Leave out the prepared networks, which are built again on use."""
        state: dict[str, object] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {**state, "_prepared": {}}


class _SharedInput:
    """The input of all networks, shape (frame, feature), before the first norm's affine weights."""

    def __init__(self, network: MaskNetwork, latent: Tensor, kind: torch.dtype) -> None:
        if not latent.min() >= 0:  # PReLU changes nothing after a rectified encoder
            latent = functional.prelu(latent, network.prelu_1.weight)  # (N, frames)
        self.scratch = Scratch()
        self.sums = Sums(self.scratch)
        if isinstance(network.norm_1, WindowNorm):
            latent = normalize_windows(latent[None, None], network.norm_1.window)[0, 0]
        elif isinstance(network.norm_1, GlobalNorm):
            for block in torch.split(latent.t(), _BLOCK):
                self.sums.add(block)
        self.features = latent.t().to(kind)


class _Layer:
    """The weights of one network in a `TCNLayer`, as (in, out) matrices."""

    def __init__(
        self, layer: TCNLayer, network: int, networks: int, kind: torch.dtype, *, last: bool
    ) -> None:
        self._conv_in = _matrix(layer.conv_in, network, networks).to(kind)
        self._slopes = layer.prelu_1.weight.item(), layer.prelu_2.weight.item()
        self._norm_1 = FoldedNorm(layer.norm_1, network, networks)
        self._taps = layer.depthwise.weight[:, 0].chunk(networks)[network].t().double()  # (P, H)
        self._dilation = layer.depthwise.dilation[0]
        self.norm_2 = FoldedNorm(layer.norm_2, network, networks)
        # The residual output of the last layer is not used.
        outputs = [layer.skip] if last else [layer.residual, layer.skip]
        parts = [part for part in outputs if part is not None]
        self.conv_out = torch.cat([_matrix(part, network, networks) for part in parts], dim=1)

    def lift(self, offset: Tensor) -> Tensor:
        """Compute the bias after the first convolution that an offset of the features causes."""
        return (offset @ self._conv_in.double()).float()

    def widen(self, features: Tensor, bias: Tensor, hidden: Tensor, sums: Sums) -> None:
        """Compute the input of the first norm for one block."""
        multiply_add(features, self._conv_in, bias, hidden, sums.scratch)
        activate(hidden, self._slopes[0], self._norm_1, sums)

    def convolve(self, hidden: Tensor, result: Tensor, sums: Sums) -> Sums:
        """Apply norm, depthwise convolution and PReLU: the operations before the second norm."""
        frames, middle = len(hidden), len(self._taps) // 2
        factor, offset = self._norm_1.affine(sums, frames)
        taps, offsets = (self._taps * factor).float(), (self._taps * offset).float()
        shifts = [(place - middle) * self._dilation for place in range(len(taps))]
        offset, output_sums, start = offsets.sum(0), Sums(sums.scratch), 0
        for centre, target in zip(
            torch.split(hidden, _BLOCK), torch.split(result, _BLOCK), strict=True
        ):
            stop = start + len(centre)
            block = target
            if target.dtype != hidden.dtype:
                block = sums.scratch("block", centre.shape, hidden.dtype)
            torch.addcmul(offset, centre, taps[middle], out=block)
            for shift, tap, missing in zip(shifts, taps, offsets, strict=True):
                first, last = max(start, -shift), min(stop, frames - shift)
                if shift and first < last:
                    near = hidden[first + shift : last + shift]
                    block[first - start : last - start].addcmul_(near, tap)
                # Zero padding comes after the norm, so the norm's offset is missing there too.
                if first > start:
                    block[: first - start] -= missing
                if last < stop:
                    block[max(last - start, 0) :] -= missing
            activate(block, self._slopes[1], self.norm_2, output_sums)
            if block is not target:
                target.copy_(block)
            start = stop
        return output_sums


class _Network:
    """One of the networks that a `MaskNetwork` runs as grouped convolutions."""

    def __init__(self, source: MaskNetwork, network: int, kind: torch.dtype) -> None:
        networks = source.networks
        self._kind = kind
        self._slopes = source.prelu_2.weight.item(), source.prelu_3.weight.item()
        self._norms = [
            FoldedNorm(norm, network, networks)
            for norm in (source.norm_1, source.norm_2, source.norm_3)
        ]
        self._conv_in = _matrix(source.conv_in, network, networks)
        self._layers = [
            _Layer(layer, network, networks, kind, last=layer is source.layers[-1])
            for layer in source.layers
            if isinstance(layer, TCNLayer)
        ]
        self._conv_out = _matrix(source.conv_out, network, networks)
        bias = source.conv_out.bias
        self._bias = None if bias is None else bias.chunk(networks)[network]
        self._output: tuple[float, FoldedNorm] | None = None
        if len(source.output):
            prelu, norm = source.output
            assert isinstance(prelu, nn.PReLU)
            self._output = prelu.weight.item(), FoldedNorm(norm, network, networks)

    def run(self, shared: _SharedInput, masks: Tensor) -> None:
        """Estimate masks, before the softmax, into `masks`, shape (frame, source and feature)."""
        frames, middle, scratch = len(shared.features), self._conv_in.shape[1], shared.scratch
        # Residual stream and skip sum are adjacent: one product adds to both.
        state = torch.zeros(frames, 2 * middle, dtype=self._kind)
        skip = state[:, middle:]
        features = torch.split(state[:, :middle], _BLOCK)
        size = self._layers[0].norm_2.channels
        wide = torch.empty(frames, size)
        hidden = torch.split(wide, _BLOCK)
        result = torch.empty(frames, size, dtype=self._kind)

        weight, bias = self._fold(self._conv_in, self._norms[0].affine(shared.sums, frames))
        sums = Sums(scratch)
        for source, block in zip(torch.split(shared.features, _BLOCK), features, strict=True):
            torch.mm(source, weight, out=block)
            activate(block.add_(bias), self._slopes[0], self._norms[1], sums)
        factor, lack = self._norms[1].affine(sums, frames)
        sums, bias = Sums(scratch), self._layers[0].lift(lack)
        for block, inner in zip(features, hidden, strict=True):
            block.mul_(factor)
            self._layers[0].widen(block, bias, inner, sums)

        # The state omits the offsets of all norms so far: they are added where they are needed.
        lacks = torch.cat([lack, torch.zeros_like(lack)])
        for layer, after in pairwise([*self._layers, None]):
            assert layer is not None
            output_sums = layer.convolve(wide, result, sums)
            weight, offset = self._fold(layer.conv_out, layer.norm_2.affine(output_sums, frames))
            lacks[-len(offset) :] += offset
            targets = torch.split(skip if after is None else state, _BLOCK)
            sums = Sums(scratch)
            bias = after.lift(lacks[:middle]) if after else lacks[middle:].float()
            for place, source in enumerate(torch.split(result, _BLOCK)):
                block = targets[place].addmm_(source, weight)
                if after is None:
                    activate(block.add_(bias), self._slopes[1], self._norms[2], sums)
                else:  # while the block is in the cache
                    after.widen(features[place], bias, hidden[place], sums)
        self._finish(skip, self._norms[2].affine(sums, frames), masks, scratch)

    def _finish(
        self, skip: Tensor, affine: tuple[Tensor, Tensor], masks: Tensor, scratch: Scratch
    ) -> None:
        weight, bias = self._fold(self._conv_out, affine)
        if self._bias is not None:
            bias = bias + self._bias
        sums, blocks = Sums(scratch), torch.split(masks, _BLOCK)
        for source, block in zip(torch.split(skip, _BLOCK), blocks, strict=True):
            multiply_add(source, weight, bias, block, scratch)
            if self._output is not None:
                activate(block, self._output[0], self._output[1], sums)
        if self._output is not None:
            factor, offset = (part.float() for part in self._output[1].affine(sums, len(skip)))
            for block in blocks:
                torch.addcmul(offset, block, factor, out=block)

    def _fold(self, weight: Tensor, affine: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Fold a norm into the next product; return the product's weights and bias."""
        factor, offset = affine
        return (weight * factor[:, None]).to(self._kind), offset @ weight


def _matrix(convolution: nn.Conv1d, network: int, networks: int) -> Tensor:
    """Return the weights of one network of a grouped 1x1 convolution, shape (in, out)."""
    return convolution.weight[..., 0].chunk(networks)[network].t().double()
