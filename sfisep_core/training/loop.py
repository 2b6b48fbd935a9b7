"""The training loop, to be read from top to bottom."""

import itertools
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.mixing import draw_batch
from sfisep_core.devices import find_device
from sfisep_core.errors import ConfigError, TrainingError
from sfisep_core.pretrained.native import save_model
from sfisep_core.training.checkpoint import (
    CHECKPOINT_NAME,
    ModelAverage,
    load_checkpoint,
    save_checkpoint,
)
from sfisep_core.training.config import TrainingConfig
from sfisep_core.training.losses import loss_function
from sfisep_core.training.run_log import RunLog
from sfisep_core.training.state import averaged_model, make_optimizer, restore, start_model
from sfisep_core.training.validation import validate, validation_mixing

_logger = logging.getLogger(__name__)

_MAX_BAD_STEPS = 3
_LOG_EVERY = 20


@dataclass(frozen=True)
class TrainingProgress:
    """Where a run stands."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    examples_per_second: float
    message: str = ""


@dataclass(frozen=True)
class TrainingResult:
    """What a run left behind: averaged weights (last, best) and the best validation score in dB."""

    last: Path
    best: Path
    best_score: float
    steps: int


def learning_rate_at(config: TrainingConfig, step: int) -> float:
    """Give the learning rate of a step (counted from 0)."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    if config.schedule == "cosine":
        shape = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    else:
        left = (config.steps - step) / config.steps
        shape = min(1.0, left / config.decay_share) if config.decay_share else 1.0
    return config.learning_rate * warmup * shape


def train(
    config: TrainingConfig,
    *,
    data: Path,
    out: Path,
    resume: bool = False,
    init: str | None = None,
    device: str = "auto",
    progress: Callable[[TrainingProgress], None] | None = None,
) -> TrainingResult:
    """Train a separator.

    Args:
        config: Settings of the run.
        data: Prepared data set with splits "train" and "valid".
        out: Folder of the run: checkpoint.pt, last.safetensors and best.safetensors (averaged
            weights), log.jsonl.
        resume: Go on from the checkpoint in `out`.
        init: Model file or name whose weights to start from; None for fresh ones. Not with
            `resume`.
        device: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:1", ...
        progress: Called every few steps and at every message.

    Returns:
        Files and best score.

    Raises:
        ConfigError: `out` already holds a run and `resume` is not set, settings do not fit, or
            `out` cannot be written to.
        DatasetError: The data set is not usable.
        CheckpointError: The run cannot be resumed, or `init` does not fit.
        TrainingError: Three steps in a row, or a validation score, were not finite.
    """
    torch_device = find_device(device)
    checkpoint = out / CHECKPOINT_NAME
    if resume and init is not None:
        msg = f"--resume goes on with the weights in {out}: --init {init} has no place there"
        raise ConfigError(msg)
    if os.path.exists(checkpoint) and not resume:
        msg = f"run folder {out}: holds a run already; pass --resume to go on, or another --out"
        raise ConfigError(msg)
    torch.manual_seed(config.seed)
    model = start_model(config, init).to(torch_device)
    optimizer = make_optimizer(model, config)
    average = ModelAverage(model, decay=config.ema_decay)
    first_step, best_score, bad_steps = 0, -math.inf, 0
    if resume:
        state = load_checkpoint(checkpoint)
        first_step, best_score = restore(
            state, model, optimizer, average, weight_decay=config.weight_decay
        )
        if config.steps < first_step:
            msg = f"run {out}: has done {first_step} steps already, got steps={config.steps}"
            raise ConfigError(msg)
    dataset = StemDataset(data, split="train", excerpt_seconds=config.mixing.stored_seconds)
    validation = StemDataset(
        data, split="valid", excerpt_seconds=validation_mixing(config.mixing).stored_seconds
    )
    if config.compile:
        model.compile_network()
    log = RunLog(out / "log.jsonl")
    try:
        out.mkdir(parents=True, exist_ok=True)
        log.path.open("a").close()
    except OSError as error:
        msg = f"run folder {out}: cannot be written to: {error.strerror}; choose another --out"
        raise ConfigError(msg) from error
    parameters = sum(parameter.numel() for parameter in model.parameters())
    log.write(event="start", step=first_step, config=asdict(config), parameters=parameters)
    last_save = log_time = time.monotonic()
    losses: list[float] = []

    for step in itertools.count(first_step):
        # 1. checkpoint and validation
        ended = step >= config.steps
        if ended or time.monotonic() - last_save > 60 * config.checkpoint_minutes:
            averaged = averaged_model(config, average).to(torch_device)
            scores = validate(
                averaged,
                validation,
                validation_mixing(config.mixing),
                excerpts=config.validation_excerpts,
                sample_rates=config.validation_rates,
            )
            if not math.isfinite(scores.mean):
                what = f"the validation score at step {step} is"
                raise _not_finite(what, checkpoint)
            improved, best_score = scores.mean > best_score, max(best_score, scores.mean)
            log.write(event="validation", step=step, mean=scores.mean, scores=scores.by_rate)
            about = {"steps": step, "validation_si_sdr_improvement_db": round(scores.mean, 3)}
            save_model(averaged, out / "last.safetensors", training=about)
            if improved:
                save_model(averaged, out / "best.safetensors", training=about)
            state = {
                "step": step,
                "best_score": best_score,
                "config": asdict(config),
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average.weights,
                "average_updates": average.updates,
            }
            save_checkpoint(checkpoint, state)
            last_save = time.monotonic()
            if progress is not None:
                message = f"validation: SI-SDR {scores.mean:+.2f} dB over the mixture"
                recent = losses[-1] if losses else math.nan
                progress(TrainingProgress(step, config.steps, recent, 0.0, 0.0, message))
        if ended:
            break

        # 2. learning rate
        learning_rate = learning_rate_at(config, step)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate

        # 3. data
        stems, sample_rate = draw_batch(
            dataset,
            model.sources,
            config.mixing,
            seed=config.seed,
            step=step,
            batch_size=config.batch_size,
        )
        stems = stems.to(torch_device)
        mixture = stems.sum(dim=1)

        # 4. forward, backward
        estimates = model(mixture, sample_rate=sample_rate)
        loss = loss_function(
            config.loss,
            estimates=estimates,
            references=stems,
            floor_db=config.floor_db,
            mask_silent=config.mask_silent,
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]

        # 5. update, unless something is not finite
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        if bool(torch.isfinite(norm)) and bool(torch.isfinite(loss)):
            optimizer.step()
            average.update(model)
            losses.append(loss.item())
            bad_steps = 0
        else:
            bad_steps += 1
            log.write(event="not finite", step=step, sample_rate=sample_rate)
            if bad_steps == _MAX_BAD_STEPS:
                what = f"{_MAX_BAD_STEPS} steps in a row up to step {step} were"
                raise _not_finite(what, checkpoint)

        # 6. log
        if (step + 1) % _LOG_EVERY == 0 and losses:
            now = time.monotonic()
            speed = len(losses) * config.batch_size / max(now - log_time, 1e-9)
            mean_loss = sum(losses) / len(losses)
            log.write(
                event="train",
                step=step + 1,
                loss=round(mean_loss, 4),
                learning_rate=learning_rate,
                gradient_norm=round(norm.item(), 4),
                examples_per_second=round(speed, 2),
            )
            if progress is not None:
                progress(TrainingProgress(step + 1, config.steps, mean_loss, learning_rate, speed))
            losses, log_time = [], now

    return TrainingResult(
        out / "last.safetensors", out / "best.safetensors", best_score, config.steps
    )


def _not_finite(what: str, checkpoint: Path) -> TrainingError:
    last = f"the last good checkpoint is {checkpoint}"
    return TrainingError(
        f"training: {what} not finite; "
        f"{last if checkpoint.exists() else 'no checkpoint yet'}: lower learning_rate"
    )
