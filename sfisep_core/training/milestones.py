"""Periodic actions of a run: checkpoints, validation, best and last models."""

import math
from pathlib import Path

import numpy as np

from sfisep_core.audio.files import write_audio
from sfisep_core.audio.stores import MemoryStore, read_all
from sfisep_core.data.datasets import StemDataset
from sfisep_core.errors import ConfigError, TrainingError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.pretrained.model_files import save_model
from sfisep_core.separation.methods import separate_signal
from sfisep_core.training.checkpoint import CHECKPOINT_NAME
from sfisep_core.training.distributed import Processes
from sfisep_core.training.run_log import RunLog
from sfisep_core.training.state import RunState
from sfisep_core.training.validation import validate


class Milestones:
    """Save and validate a run.

    Args:
        state: The run.
        dataset: Validation split.
        processes: The processes that share the run; the first one writes.
        log: Log of the scores.
        out: Folder of the run.

    Raises:
        ConfigError: `out` cannot be written to.
    """

    def __init__(
        self,
        state: RunState,
        dataset: StemDataset,
        processes: Processes,
        log: RunLog,
        out: Path,
    ) -> None:
        self.last = out / "last.safetensors"
        self.best = out / "best.safetensors"
        self._state = state
        self._dataset = dataset
        self._processes = processes
        self._log = log
        self._out = out
        self._checkpoint = out / CHECKPOINT_NAME

    def is_due(self) -> bool:
        """Tell whether a validation is due: at the end of an epoch or the run, once per step."""
        state = self._state
        ends = state.step % state.config.epoch_steps == 0 or state.step >= state.config.steps
        return ends and state.validated_step < state.step

    def exhausted(self) -> bool:
        """Tell whether `patience` validations in a row gave no better score."""
        patience = self._state.config.patience
        return 0 < patience <= self._state.stale_validations

    def save(self) -> None:
        """Write the checkpoint."""
        if self._processes.is_first:
            self._state.save(self._checkpoint)

    def validate(self) -> float:
        """Validate the averaged weights, and write them as last and, if better, as best model.

        Returns:
            The score: mean improvement of SI-SDR in dB.

        Raises:
            TrainingError: The score is not finite; the previous checkpoint is kept.
        """
        state, config, processes = self._state, self._state.config, self._processes
        model = state.averaged_model()
        scores = validate(
            model,
            self._dataset,
            sample_rates=config.validation_rates,
            seconds=config.validation_seconds,
            max_tracks=config.validation_tracks,
            rank=processes.rank,
            world_size=processes.world_size,
            reduce=processes.sum,
        )
        score = scores.mean
        if not math.isfinite(score):
            msg = (
                f"training: the validation score at step {state.step} is not finite; "
                f"{self.checkpoint_text()}: lower learning_rate"
            )
            raise TrainingError(msg)
        improved = score > state.best_score
        if processes.is_first:
            self._log.write(
                event="validation",
                step=state.step,
                mean=score,
                si_sdr_improvement=scores.si_sdr,
                snr=scores.snr,
            )
            about = {
                "steps": state.step,
                "validation_si_sdr_improvement_db": round(score, 3),
                "data": None if state.data is None else state.data.public_record(),
            }
            save_model(model, self.last, training=about)
            if improved:
                save_model(model, self.best, training=about)
            self._write_examples(model)
        # Only now: a run that is stopped earlier repeats this validation when resumed.
        state.best_score = max(score, state.best_score)
        state.stale_validations = 0 if improved else state.stale_validations + 1
        state.validated_step = state.step
        self.save()
        return score

    def checkpoint_text(self) -> str:
        """Describe where the last good checkpoint is."""
        if not self._checkpoint.exists():
            return "there is no checkpoint yet"
        return f"the last good checkpoint is {self._checkpoint}"

    def stopped_message(self) -> str:
        """Describe how to resume a run that a signal stops."""
        return (
            f"training stopped at step {self._state.step}; "
            f"`sfisep train --resume --out {self._out}` goes on"
        )

    def _write_examples(self, model: SeparationModel) -> None:
        """Write the estimates of the first validation tracks, for listening."""
        for track in self._dataset.tracks[: self._state.config.audio_examples]:
            stems = [self._dataset.read_whole(track, stem) for stem in self._dataset.stems]
            mixture = np.sum(stems, axis=0)
            frames = round(self._state.config.validation_seconds * track.sample_rate)
            start = max(0, (mixture.shape[-1] - frames) // 2) if frames else 0
            mixture = mixture[:, start : start + frames] if frames else mixture
            estimates = read_all(
                separate_signal(model, MemoryStore(mixture), sample_rate=track.sample_rate)
            )
            folder = self._out / "examples" / f"step-{self._state.step:07d}" / track.name
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                msg = (
                    f"audio examples {folder}: cannot be written: {error.strerror}: make room, and "
                    "go on with --resume"
                )
                raise ConfigError(msg) from error
            for stem, estimate in zip(model.sources, estimates, strict=True):
                path = folder / f"{stem}.wav"
                write_audio(path, estimate, sample_rate=track.sample_rate, encoding="float32")
