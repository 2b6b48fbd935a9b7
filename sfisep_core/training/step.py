"""One step of training: forward, backward and update, on all processes."""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sfisep_core.data.loader import ExampleLoader
from sfisep_core.data.mixing import RawBatch, draw_step, mix_batch
from sfisep_core.foundation.float64 import float64_device
from sfisep_core.training.distributed import Processes
from sfisep_core.training.losses import source_losses, source_weights, staged_losses
from sfisep_core.training.state import RunState


def train_step(
    state: RunState, batches: Iterator[RawBatch], processes: Processes, loader: ExampleLoader
) -> tuple[Tensor, Tensor, Tensor]:
    """Do one step of training.

    Args:
        state: State of the run; its model is updated.
        batches: Raw batches; one is taken for every micro-batch.
        processes: The processes of the run.
        loader: Where the batches come from.

    Returns:
        This process's share of the loss, the gradient norm, and whether the step was finite, all
        on the device.
    """
    config, model, device = state.config, state.model, processes.device
    # Random numbers of the model (dropout) depend only on the step, not on previous steps.
    seeds = np.random.SeedSequence([config.seed, state.step, processes.rank])
    torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> np.uint64(1)))
    draw = draw_step(config.mixing, seed=config.seed, step=state.step)
    micro_batches = []
    for _ in range(config.accumulation):
        raw = next(batches).to(device, dtype=state.dtype, non_blocking=True)
        stems = mix_batch(raw, draw, config.mixing, stored_rate=loader.dataset.sample_rate)
        micro_batches.append(_normalized(stems) if model.normalizes_level else stems)
    # The mean is over everything that counts in the step, on all processes.
    count = len(model.sources)  # further stems are only part of the mixture
    weights = [
        source_weights(stems, mask_silent=config.mask_silent)[:, :count] for stems in micro_batches
    ]
    total = processes.sum(torch.stack([w.sum() for w in weights]).sum()).clamp_min(1.0)

    measure = partial(
        source_losses,
        config.loss,
        sources=loader.sources,
        floor_db=config.floor_db,
        window_seconds=config.window_seconds,
        dissimilarity=config.dissimilarity,
    )
    state.update.begin()
    step_loss = torch.zeros((), dtype=torch.float64, device=float64_device(device))
    for number, (stems, weight) in enumerate(zip(micro_batches, weights, strict=True)):
        is_last = number == config.accumulation - 1
        with nullcontext() if is_last else processes.no_sync(state.network):
            with state.update.autocast():
                estimates = state.network(stems.sum(dim=1), sample_rate=draw.sample_rate)
            losses = staged_losses(
                measure,
                estimates=estimates,
                references=stems,
                sample_rate=draw.sample_rate,
                stage_rates=model.stage_rates,
                above_rate=model.above_rate,
            )
            share = (losses * weight).sum() / total
            # Gradients are averaged over processes, but their sum is needed.
            state.update.backward(share * processes.world_size)
        step_loss += share.detach().to(step_loss.device)
    norm, finite = state.update.apply()
    return step_loss, norm, finite


def _normalized(stems: Tensor) -> Tensor:
    """Divide by the standard deviation of each mixture's channels, as in separation."""
    deviation = stems.sum(dim=1, keepdim=True).std(dim=-1, keepdim=True)
    return stems / torch.where(deviation > 0, deviation, 1.0)
