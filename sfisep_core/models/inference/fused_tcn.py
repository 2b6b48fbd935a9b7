"""The mask network on a CPU: the same masks from fewer passes over memory.

Networks that run side by side are run one after the other, so that less memory is touched at a
time; features lie as (frame, channel). What stands between two matrix products is done on blocks
of frames that stay in the cache, and a norm becomes a factor and an offset a channel, which the
convolution behind it takes into its weights: only the sums for its statistics are left of it.
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
    """Tell whether all norms behind the first are of kinds that fold into convolutions."""
    norms = [module for module in network.modules() if isinstance(module, WindowNorm)]
    return all(norm is network.norm_1 for norm in norms)


class FusedMaskNetwork(nn.Module):
    """A `MaskNetwork` for inference on CPUs, equal to it but for rounding.

    Args:
        network: The network, of which `can_fuse` is true, in evaluation mode; later changes of its
            weights are not seen.

    Shape:
        - Input: (batch, num_features, frames)
        - Output: (batch, num_sources, num_features, frames), the features next to each other in
          memory. Under autocast to a 16-bit type, features within the network have that type, and
          masks 32 bits.
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
            for item, found, part in zip(latent, raw, masks, strict=True):
                shared = _SharedInput(self.network, item, kind)
                for network, result in zip(networks, found, strict=True):
                    network.run(shared, result)
                for block in torch.split(part, _BLOCK, dim=1) if self.network.softmax else ():
                    block.copy_(block.softmax(dim=0))
        return masks.transpose(2, 3)  # (B, S, N, frames)

    def prepare(self) -> tuple[torch.dtype, "list[_Network]"]:
        """Give the type of features within the network, and the networks, made once."""
        low = torch.is_autocast_enabled("cpu")
        kind = torch.get_autocast_dtype("cpu") if low else torch.float32
        if kind not in self._prepared:
            count = self.network.networks
            self._prepared[kind] = [_Network(self.network, n, kind) for n in range(count)]
        return kind, self._prepared[kind]

    def __getstate__(self) -> dict[str, object]:
        """Leave out what is made anew."""
        state: dict[str, object] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {**state, "_prepared": {}}


class _SharedInput:
    """What all networks take: shape (frame, feature), before the first norm's own weights."""

    def __init__(self, network: MaskNetwork, latent: Tensor, kind: torch.dtype) -> None:
        if not latent.min() >= 0:  # an encoder with a rectifier gives nothing to be changed
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
    """The weights of a `TCNLayer` in one of several networks, as (in, out) matrices."""

    def __init__(
        self, layer: TCNLayer, network: int, networks: int, kind: torch.dtype, *, last: bool
    ) -> None:
        self._conv_in = _matrix(layer.conv_in, network, networks).to(kind)
        self._slopes = layer.prelu_1.weight.item(), layer.prelu_2.weight.item()
        self._norm_1 = FoldedNorm(layer.norm_1, network, networks)
        self._taps = layer.depthwise.weight[:, 0].chunk(networks)[network].t().double()  # (P, H)
        self._dilation = layer.depthwise.dilation[0]
        self.norm_2 = FoldedNorm(layer.norm_2, network, networks)
        # Nothing takes the residual output of the last layer.
        found = [layer.skip] if last else [layer.residual, layer.skip]
        parts = [part for part in found if part is not None]
        self.conv_out = torch.cat([_matrix(part, network, networks) for part in parts], dim=1)

    def lift(self, offset: Tensor) -> Tensor:
        """Give the bias by which an offset of the features shows behind the first convolution."""
        return (offset @ self._conv_in.double()).float()

    def widen(self, features: Tensor, bias: Tensor, hidden: Tensor, sums: Sums) -> None:
        """Compute what comes before the first norm, of one block."""
        multiply_add(features, self._conv_in, bias, hidden, sums.scratch)
        activate(hidden, self._slopes[0], self._norm_1, sums)

    def convolve(self, hidden: Tensor, result: Tensor, sums: Sums) -> Sums:
        """Norm, depthwise convolution and PReLU: all that comes before the second norm."""
        frames, middle = len(hidden), len(self._taps) // 2
        factor, offset = self._norm_1.affine(sums, frames)
        taps, offsets = (self._taps * factor).float(), (self._taps * offset).float()
        shifts = [(place - middle) * self._dilation for place in range(len(taps))]
        offset, found, start = offsets.sum(0), Sums(sums.scratch), 0
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
                # Zero padding stands for zeros after the norm: there its offset is missing too.
                if first > start:
                    block[: first - start] -= missing
                if last < stop:
                    block[max(last - start, 0) :] -= missing
            activate(block, self._slopes[1], self.norm_2, found)
            if block is not target:
                target.copy_(block)
            start = stop
        return found


class _Network:
    """One of the networks that a `MaskNetwork` runs side by side."""

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
        # Residual stream and skip sum side by side: one product adds to both.
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

        # The state lacks the offsets of all norms so far: they are added where they are needed.
        lacks = torch.cat([lack, torch.zeros_like(lack)])
        for layer, after in pairwise([*self._layers, None]):
            assert layer is not None
            found = layer.convolve(wide, result, sums)
            weight, offset = self._fold(layer.conv_out, layer.norm_2.affine(found, frames))
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
        """Take a norm into the product behind it; give that one's weights and bias."""
        factor, offset = affine
        return (weight * factor[:, None]).to(self._kind), offset @ weight


def _matrix(convolution: nn.Conv1d, network: int, networks: int) -> Tensor:
    """Give the weights of one network of a grouped 1x1 convolution, shape (in, out)."""
    return convolution.weight[..., 0].chunk(networks)[network].t().double()
