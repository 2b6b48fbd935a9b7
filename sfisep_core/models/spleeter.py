"""Spleeter: masks of stereo magnitudes from U-Nets, one for each source, in patches of 12 s.

Source: Hennequin, Khlif, Voituret and Moussallam, "Spleeter: a fast and efficient music source
separation tool with pre-trained models", Journal of Open Source Software 5(50), 2020, and its
program (deezer/spleeter 1.4).
"""

import copy
import math
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional

from sfisep_core.audio.stft import STFTConfig
from sfisep_core.config_values import Range
from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.consistency import ENERGY_SECONDS
from sfisep_core.models.blocks.masks import mask_spectra
from sfisep_core.models.blocks.source_networks import SourceNetworks
from sfisep_core.models.blocks.spleeter_unet import SpleeterUNet, SpleeterUNetConfig
from sfisep_core.models.blocks.windows import run_windows
from sfisep_core.models.contract import GainRule, rest_of
from sfisep_core.models.inference.polyphase import polyphase
from sfisep_core.models.inference.recent_results import RecentResults
from sfisep_core.models.inference.side_by_side import map_side_by_side
from sfisep_core.models.spectrogram_model import SpectrogramConfig, SpectrogramModel

Masks = Literal["ratio", "softmax", "complement", "joint"]
AboveNetwork = Literal["zeros", "average", "top-band", "rest"]

# Added to the sum of powers: if the sum is smaller, all sources get about the same share.
_EPS = 1e-10
# Up to this many frames after the last patch use its last mask, to save a further patch.
_HELD_FRAMES = 8
# Masks are kept for the next segment of up to this many pairs of channels, 20 MiB each.
_MOST_KEPT = 3
# "top-band" averages the upper 1 / _TOP_SHARE of the network's bins.
_TOP_SHARE = 4


@dataclass(frozen=True)
class SpleeterConfig(SpectrogramConfig):
    """Settings of Spleeter; the defaults are those of the model of two stems.

    Attributes:
        segment_seconds: Seconds of a segment of a long signal, rounded to a whole number of patch
            steps; 0 = the whole signal.
        network: Size of each U-Net.
        masks: "ratio": each network estimates its source's magnitude with a sigmoid; the mask is
            the estimate's power divided by the sum of all sources' (2 and 4 stems). "softmax": the
            same with a softmax over the sources in place of the sigmoid (5 stems). "complement":
            there is one network; its sigmoid is the first source's mask, and the second source is
            the residual. "joint": there is one network for all sources; their masks are a softmax
            over the sources. If the last source is the residual source and stems are
            mixture-consistent, it is what the others leave.
        num_bins: Number of bins, from 0 Hz on, that a network takes.
        patch_frames: Frames of a patch, whatever the signal.
        patches: "joined": patches lie on a fixed grid and are cross-faded, so that segments agree
            with the whole signal. "published": patches do not overlap; the first starts two hops
            before the signal.
        patch_overlap: Frames of the cross-fade, "joined" only. With the default, patches are 441
            frames apart: 10.24 s, a whole number of samples at every multiple of 25 Hz.
        above: Masks above the network's bins (11 kHz). "zeros" and "average" are the published
            choices: zero, or each frame's mean over the network's bins. "top-band": the mean over
            the upper quarter of these bins. "rest": everything to the residual source.

    Raises:
        ConfigError: Settings contradict each other.
    """

    sources: tuple[str, ...] = ("vocals", "accompaniment")
    stft: STFTConfig = field(default_factory=lambda: STFTConfig(n_fft=4096, hop=1024))
    gain_rule: GainRule = "mixture-consistent"
    segment_seconds: Annotated[int, Range(0, 3600)] = 20
    context_seconds: Annotated[float, Range(0, 600)] = 6.04  # half a patch and two frames
    network: SpleeterUNetConfig = field(default_factory=SpleeterUNetConfig)
    masks: Masks = "ratio"
    num_bins: Annotated[int, Range(1, 65536)] = 1024
    patch_frames: Annotated[int, Range(1, 65536)] = 512
    patches: Literal["joined", "published"] = "joined"
    patch_overlap: Annotated[int, Range(0, 32768)] = 71
    above: AboveNetwork = "rest"

    def __post_init__(self) -> None:
        """Check values, and combinations of them."""
        super().__post_init__()
        multiple = self.network.multiple
        for name, value in (("num_bins", self.num_bins), ("patch_frames", self.patch_frames)):
            if value < multiple or value % multiple:
                msg = (
                    f"Spleeter {name}: expected a multiple of {multiple} with "
                    f"{len(self.network.channels)} levels, got {value}"
                )
                raise ConfigError(msg)
        if self.num_bins > self.stft.num_bins:
            msg = (
                f"Spleeter num_bins: expected at most the {self.stft.num_bins} of the transform, "
                f"got {self.num_bins}"
            )
            raise ConfigError(msg)
        if not 0 <= self.patch_overlap <= self.patch_frames // 2:
            msg = (
                f"Spleeter patch_overlap: expected 0 to half a patch, {self.patch_frames // 2} "
                f"frames, got {self.patch_overlap}"
            )
            raise ConfigError(msg)
        if self.masks == "complement" and len(self.sources) != 2:
            msg = (
                "Spleeter masks complement: expected two sources, what the network is for and the "
                f"rest, got {', '.join(self.sources)}"
            )
            raise ConfigError(msg)

    @property
    def patch_step(self) -> int:
        """Frames from one patch to the next."""
        return self.patch_frames - (self.patch_overlap if self.patches == "joined" else 0)


class Spleeter(SpectrogramModel):
    """Spleeter: U-Nets on stereo magnitudes in patches of 12 s, one for each source.

    Args:
        config: Settings.

    Raises:
        ConfigError: Settings contradict each other.
    """

    family = "spleeter"
    config: SpleeterConfig
    network: SourceNetworks

    def __init__(self, config: SpleeterConfig) -> None:
        super().__init__(
            config,
            channels=2,
            chunk_invariant=_is_chunk_invariant(config),
            frame_step=config.patch_step,
        )
        count = len(config.sources)
        num_networks = 1 if config.masks in ("complement", "joint") else count
        num_masks = count if config.masks == "joint" else 1
        # Masks that add up to 1 leave the last source to the residual: a third less to transform.
        self._leaves_rest = (
            config.masks == "joint"
            and count > 1
            and rest_of(config.sources) == config.sources[-1]
            and config.gain_rule == "mixture-consistent"
        )
        make = partial(SpleeterUNet, config.network, num_masks=num_masks)
        self.network = SourceNetworks(make, num_networks)
        # Of the patches that the next segment has, too; None where weights may change.
        self._recent: RecentResults | None = None

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        """Separate a mixture; see `SeparationModel.forward`."""
        if self.config.patches == "joined" or mixture.numel() == 0:
            return super().forward(mixture, sample_rate=sample_rate)
        # In the published program frames start one window before the signal, here half a window.
        length = mixture.shape[-1]
        window = math.ceil(self.config.stft.n_fft * sample_rate / self.native_rate)
        padded = functional.pad(mixture, (window // 2, window))
        stems = super().forward(padded, sample_rate=sample_rate)
        return stems[..., window // 2 : window // 2 + length]

    def for_inference(self, *, compiled: bool = False) -> "Spleeter":
        """Return a copy that computes less on CPUs; see `SeparationModel`.

        Its network has fewer operations, and it keeps the masks of a segment's last patch, which is
        the first one of the next: one of three patches of a segment is not computed again.
        """
        if compiled or next(self.parameters()).device.type != "cpu":
            return self
        model = copy.copy(self)
        model._modules = {**self._modules, "network": polyphase(self.network)}
        model._recent = RecentResults()
        return model

    def bins_to_estimate(self, sample_rate: int) -> int:
        """Return the bins up to half the rate, rounded up to the network's multiple, or all."""
        config = self.config
        below = config.stft.n_fft * int(sample_rate) // (2 * self.native_rate) + 1
        bins = -(-below // config.network.multiple) * config.network.multiple
        return bins if bins < config.num_bins else config.stft.num_bins

    def estimate(self, spectra: Tensor) -> Tensor:
        """Mask the spectra; see `SpectrogramModel.estimate`."""
        spectra = spectra.transpose(-1, -2)
        masks = self.estimate_masks(spectra[..., : self.config.num_bins].abs())
        covers_all = masks.shape[-1] == spectra.shape[-1]
        above = None if covers_all else self._mask_above(masks)
        return mask_spectra(masks, spectra, above=above).transpose(-1, -2)

    def estimate_masks(self, magnitudes: Tensor) -> Tensor:
        """Estimate masks in the network's bins, or in the lower part of them.

        Args:
            magnitudes: Shape (batch, 2, frames, bins). The first frame is that of a signal's start
                or, with "joined" patches, of a multiple of `chunk_alignment`. The number of bins is
                a multiple of `config.network.multiple`.

        Returns:
            Masks of 0 to 1, shape (batch, source, 2, frames, bins); without the last source if it
            is the residual.
        """
        config, frames = self.config, magnitudes.shape[2]
        lead = held = 0
        if config.patches == "joined":
            # The windows of the first frames start before the signal or segment. These frames are
            # in no patch and use the mask of the next frame that is; the last frames likewise use
            # the one before.
            lead = min(_lead_frames(config), frames - 1)
            behind = max(0, frames - lead - config.patch_frames)
            left_over = behind % config.patch_step
            held = left_over if left_over <= _HELD_FRAMES else 0
        masks = run_windows(
            self._patch_masks
            if torch.is_grad_enabled()
            else partial(self._patch_masks_one_by_one, signals=magnitudes.shape[0]),
            magnitudes[:, :, lead : frames - held],
            frames=config.patch_frames,
            overlap=config.patch_frames - config.patch_step,
            multiple=config.network.multiple if config.patches == "joined" else None,
        )
        if lead or held:
            places = torch.arange(-lead, frames - lead, device=masks.device)
            masks = masks.index_select(3, places.clamp(0, masks.shape[3] - 1))
        return masks

    def _patch_masks_one_by_one(self, magnitudes: Tensor, *, signals: int) -> Tensor:
        """Compute `_patch_masks` of patches, signal by signal, with the memory of one per core."""
        patches, on_cpu = torch.split(magnitudes, 1), magnitudes.device.type == "cpu"
        recent = self._recent if on_cpu and signals <= _MOST_KEPT else None
        known = [None if recent is None else recent.find(patch) for patch in patches]
        new = [patch for patch, found in zip(patches, known, strict=True) if found is None]
        run = map_side_by_side if on_cpu else map
        results = iter(run(self._patch_masks, new))
        masks = [next(results) if found is None else found for found in known]
        if recent is not None:
            count = len(patches) // signals
            last = slice(count - 1, None, count)
            recent.keep(zip(patches[last], masks[last], strict=True))
        return torch.cat(masks)

    def _patch_masks(self, magnitudes: Tensor) -> Tensor:
        """Compute masks in patches, (batch, source, 2, frames, bins)."""
        logits = self.network(magnitudes).float()
        if self.config.masks == "complement":
            return torch.sigmoid(logits)
        if self.config.masks == "joint":
            joint = torch.softmax(logits[:, 0].unflatten(1, (-1, 2)), dim=1)
            return joint[:, :-1] if self._leaves_rest else joint
        is_softmax = self.config.masks == "softmax"
        shares = torch.softmax(logits, dim=1) if is_softmax else torch.sigmoid(logits)
        powers = (shares * magnitudes.unsqueeze(1)).square()
        total = powers.sum(dim=1, keepdim=True) + _EPS
        return (powers + _EPS / len(self.sources)) / total

    def _mask_above(self, masks: Tensor) -> Tensor:
        """Compute the mask above the network's bins, (B, S, 2, frames, 1), from those in them."""
        above = self.config.above
        if above == "average":
            return masks.mean(dim=-1, keepdim=True)
        if above == "top-band":
            return masks[..., -(masks.shape[-1] // _TOP_SHARE) :].mean(dim=-1, keepdim=True)
        rest = rest_of(self.sources) if above == "rest" else None
        named = torch.tensor([float(name == rest) for name in self.sources[: masks.shape[1]]])
        return named.to(masks)[:, None, None, None].expand(*masks.shape[:-1], 1)


def _lead_frames(config: SpleeterConfig) -> int:
    """Compute the number of first frames whose windows start before the signal."""
    return -(-config.stft.n_fft // (2 * config.stft.hop))


def _is_chunk_invariant(config: SpleeterConfig) -> bool:
    """Tell whether segments, without their context, agree with the whole signal.

    Segments start where patches start (`chunk_alignment`). The frames that are kept must lie in
    patches that are complete within the segment, including the second patch of a cross-fade.
    """
    hop, step = config.stft.hop, config.patch_step
    lead = _lead_frames(config)
    # In frames. A sample depends on frames half a window away and on share_residual's energies.
    context = config.context_seconds * config.native_rate / hop
    around = lead + ENERGY_SECONDS * config.native_rate / hop
    # The first "published" patch of a segment contains the zeros before it.
    first = step if config.patches == "published" else lead + config.patch_overlap
    if config.patches == "published":
        lead = -lead
    # A segment is some steps plus twice the context long: count the complete patches at its end.
    whole = math.floor((2 * context - lead - 2 - config.patch_frames) / step) + 1
    return context >= first + around and context + around <= lead + whole * step
