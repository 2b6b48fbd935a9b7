"""The training loop."""

import math
import os
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.loader import ExampleLoader
from sfisep_core.errors import ConfigError, TrainingError
from sfisep_core.foundation.interrupts import Interrupts, StoppedBySignal, catch_interrupts
from sfisep_core.models.registry import FAMILIES
from sfisep_core.separation.permutation import check_sources_fit
from sfisep_core.training.checkpoint import CHECKPOINT_NAME, owned
from sfisep_core.training.config import TrainingConfig
from sfisep_core.training.distributed import Processes, join_processes, launched
from sfisep_core.training.milestones import Milestones
from sfisep_core.training.optimizers import learning_rate_at
from sfisep_core.training.run_data import RunData, check_same_data, find_folder
from sfisep_core.training.run_log import RunLog
from sfisep_core.training.run_start import log_start
from sfisep_core.training.state import RunState
from sfisep_core.training.step import train_step
from sfisep_core.training.trial import check_model


@dataclass(frozen=True)
class TrainingProgress:
    """Progress of a run.

    Attributes:
        step: Number of steps done.
        steps: Total number of steps.
        loss: Mean over the steps since the last line of the log; None before the first value.
        learning_rate: Learning rate of the last step; None before the first.
        message: A further message.
    """

    step: int
    steps: int
    loss: float | None = None
    learning_rate: float | None = None
    message: str = ""


@dataclass(frozen=True)
class TrainingResult:
    """Result of a run: averaged weights (last, best) and the best validation score in dB."""

    last: Path
    best: Path
    best_score: float
    steps: int


ProgressCallback = Callable[[TrainingProgress], None]


def train(
    config: TrainingConfig,
    *,
    data: Path | None,
    out: Path,
    resume: bool = False,
    change_data: bool = False,
    init: str | None = None,
    device: str = "auto",
    loader_workers: int = 0,
    tensorboard: bool = False,
    progress: ProgressCallback | None = None,
) -> TrainingResult:
    """Train a separator.

    If a launcher started several processes, all of them call this with the same arguments.

    Args:
        config: Settings of the run.
        data: Prepared data set with splits "train" and "valid"; None = that of the resumed run.
        out: Folder of the run: checkpoint.pt, last.safetensors and best.safetensors (averaged
            weights), log.jsonl.
        resume: Resume from the checkpoint in `out`.
        change_data: Resume although `data` differs from the run's training data. The best score is
            then reset if the split "valid" has changed.
        init: Model file or name with the initial weights; None = random ones. Not with `resume`.
        device: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:1", ...
        loader_workers: Processes that read examples, for each training process; 0 reads them in the
            training process. The examples do not depend on it.
        tensorboard: Write TensorBoard's files as well.
        progress: Called before the first step and after every step, in the first process only.

    Returns:
        Files and best score.

    Raises:
        ConfigError: `out` already contains a run and `resume` is not set, settings are invalid, the
            data are not those of the run, or `out` cannot be written to.
        DatasetError: The data set is not usable.
        CheckpointError: The run cannot be resumed, or `init` does not match the model.
        StoppedBySignal: A signal was received; the checkpoint contains all steps done.
        TrainingError: Three steps in a row, or a validation score, were not finite.
    """
    checkpoint = out / CHECKPOINT_NAME
    if resume and init is not None:
        msg = f"--resume goes on with the weights in {out}: leave --init {init} out"
        raise ConfigError(msg)
    if os.path.exists(checkpoint) and not resume:
        msg = f"run folder {out}: holds a run already; pass --resume to go on, or another folder"
        raise ConfigError(msg)
    if FAMILIES[config.family][1].trained_on_top and init is None and not resume:
        msg = (
            f"a {config.family} model is trained on top of another: name that one with --init MODEL"
        )
        raise ConfigError(msg)
    with (
        join_processes(device) as processes,
        catch_interrupts(twice_stops=not launched()) as interrupts,
    ):
        state = RunState(config, processes, init=init)
        if resume:
            state.restore(checkpoint)
        folder = find_folder(data, state.data, out)
        dataset = StemDataset(folder, split="train", excerpt_seconds=config.mixing.stored_seconds)
        validation = StemDataset(folder, split="valid", excerpt_seconds=None)
        for split in (dataset, validation):
            check_sources_fit(state.model.sources, split.stems, where="setting model.sources")
        previous = state.data
        current = RunData.of(train=dataset, valid=validation)
        if previous is not None and not change_data:
            check_same_data(previous, current, out)
        state.use_data(current)
        check_model(state.model, config.mixing.sample_rates, dataset.stems)
        mixed = dataset.mixed_with(state.model.sources)
        loader = ExampleLoader(
            dataset,
            mixed,
            config.mixing,
            seed=config.seed,
            first_step=state.step,
            steps=config.steps,
            batch_size=config.batch_size,
            accumulation=config.accumulation,
            rank=processes.rank,
            world_size=processes.world_size,
            workers=loader_workers,
            pin_memory=processes.device.type == "cuda",
        )
        with (
            closing(RunLog(out, enabled=processes.is_first, tensorboard=tensorboard)) as log,
            owned(out) if processes.is_first else nullcontext(),
        ):
            milestones = Milestones(state, validation, processes, log, out)
            report = progress if progress is not None and processes.is_first else None
            try:
                log_start(state, log, previous_data=previous, processes=processes)
                _run(state, loader, processes, interrupts, milestones, log, report)
            finally:
                loader.close()
    return TrainingResult(milestones.last, milestones.best, state.best_score, state.step)


def _run(
    state: RunState,
    loader: ExampleLoader,
    processes: Processes,
    interrupts: Interrupts,
    milestones: Milestones,
    log: RunLog,
    report: ProgressCallback | None,
) -> None:
    """Train until the last step, or until `patience` stops the run."""
    config, on_cpu = state.config, processes.device.type == "cpu"
    batches = iter(loader)
    told = TrainingProgress(state.step, config.steps)
    if report is not None:
        report(told)
    last_save = log_time = time.monotonic()
    logged_step = state.step
    while True:
        # 1. validation
        if milestones.is_due():
            begun = time.monotonic()
            _refuse_divergence(state, milestones)
            try:
                with interrupts.immediate(milestones.stopped_message()):
                    score = milestones.validate()
            except StoppedBySignal:
                milestones.save()  # resuming starts with the validation of these steps
                raise
            if report is not None:
                message = (
                    f"step {state.step} of {config.steps}: validation: SI-SDR {score:+.2f} dB over "
                    "the mixture"
                )
                report(replace(told, message=message))
            last_save = time.monotonic()
            log_time += last_save - begun
        if state.step >= config.steps or milestones.exhausted():
            return

        # 2. learning rate
        learning_rate = learning_rate_at(config, state.step)
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate

        # 3. data, forward, backward, update
        loss, norm, finite = train_step(state, batches, processes, loader)
        state.statistics.add(loss, finite)
        state.average.update(state.model)
        state.step += 1

        # 4. read results from the device: at every step on CPUs, where it is free
        logs = state.step % config.log_steps == 0
        asks = on_cpu or logs
        stop_signal = save = 0
        if asks:
            minutes = (time.monotonic() - last_save) / 60
            too_long = minutes > config.checkpoint_minutes and processes.is_first
            wishes = [interrupts.received, too_long]
            stop_signal, save = processes.maximum(
                torch.tensor(wishes, device=processes.device)
            ).tolist()
            _refuse_divergence(state, milestones)

        # 5. log, report
        told = replace(told, step=state.step, learning_rate=learning_rate)
        if logs:
            mean_loss, not_finite = state.statistics.take(processes)
            now, gradient_norm = time.monotonic(), norm.item()
            speed = (state.step - logged_step) * config.batch_size / max(now - log_time, 1e-9)
            log.write(
                event="train",
                step=state.step,
                loss=mean_loss if math.isfinite(mean_loss) else None,
                learning_rate=learning_rate,
                gradient_norm=gradient_norm if math.isfinite(gradient_norm) else None,
                steps_not_finite=not_finite,
                examples_per_second=round(speed, 2),
            )
            told = replace(told, loss=mean_loss)
            log_time, logged_step = now, state.step
        elif processes.world_size == 1 and (asks or told.loss is None):
            # Waiting for the first loss is acceptable. It is this process's share; shares are
            # summed over processes only for the log.
            told = replace(told, loss=state.statistics.mean())
        if report is not None:
            report(told)

        # 6. checkpoint, stop
        if stop_signal or save:
            begun = time.monotonic()
            milestones.save()
            last_save = time.monotonic()
            log_time += last_save - begun
        if stop_signal:
            raise StoppedBySignal(milestones.stopped_message(), signal_number=int(stop_signal))


def _refuse_divergence(state: RunState, milestones: Milestones) -> None:
    if state.statistics.worst_streak() >= state.update.max_bad_steps:
        msg = (
            f"training: {state.update.max_bad_steps} steps in a row up to step {state.step} "
            f"were not finite; {milestones.checkpoint_text()}: lower learning_rate"
        )
        raise TrainingError(msg)
