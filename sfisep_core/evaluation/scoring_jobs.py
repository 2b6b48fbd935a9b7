"""One track at one sampling frequency, the unit of work of an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sfisep_core.audio.files import write_audio
from sfisep_core.audio.resample import resample, resampled_length
from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.manifest import PreparedTrack
from sfisep_core.errors import AudioFileError, DatasetError, SfisepError
from sfisep_core.evaluation.equivariance import equivariance_db, native_stems
from sfisep_core.evaluation.score_files import narrowed, read_track_scores, write_track_scores
from sfisep_core.evaluation.scored_stems import as_scored
from sfisep_core.evaluation.signals import TrackSignals, read_signals
from sfisep_core.evaluation.study import Samples
from sfisep_core.evaluation.systems import System, load, make_estimates
from sfisep_core.evaluation.track_scores import (
    SCORING_VERSION,
    MetricSet,
    TrackScores,
    score_track,
)
from sfisep_core.foreign import path_below
from sfisep_core.foundation.float64 import float64_device
from sfisep_core.separation.methods import METHODS
from sfisep_core.separation.permutation import are_unnamed, match_estimates
from sfisep_core.separation.settings import OPTIONS_OF


@dataclass(frozen=True)
class ScoringSettings:
    """How to score.

    Attributes:
        metrics: See `track_scores.score_track`.
        allow_upsampled: Whether tracks and estimates may be stored at a lower rate than that of
            scoring.
        save_estimates: Whether to write the estimates next to the scores, as float32 WAV files.
        equivariance: Whether to compare each method with the model at its native rate.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """

    metrics: MetricSet = "all"
    allow_upsampled: bool = False
    save_estimates: bool = False
    equivariance: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class Failure:
    """What could not be scored, and why."""

    track: str
    sample_rate: int
    system: str
    message: str


@dataclass(frozen=True)
class ScoringJob:
    """One track at one rate.

    Attributes:
        dataset: The split, of whole tracks.
        track: One of its tracks.
        sample_rate: Rate in Hz to score at.
        sources: Names of the sources, in order.
        systems: What to score.
        settings: How to score.
        out: Folder of all scores.
        threads: Number of PyTorch threads; None = unchanged.
    """

    dataset: StemDataset
    track: PreparedTrack
    sample_rate: int
    sources: tuple[str, ...]
    systems: tuple[System, ...]
    settings: ScoringSettings
    out: Path
    threads: int | None = None

    def missing(self) -> list[System]:
        """Return the systems without scores for these settings."""
        return [system for system in self.systems if self.finished(system) is None]

    def finished(self, system: System) -> TrackScores | None:
        """Read the scores of a system, without others that are stored; None if some are missing."""
        try:
            settings = self.settings_of(system)
        except SfisepError:
            return None  # scoring reports the error
        stored = read_track_scores(self._path(system))
        scores = None if stored is None else narrowed(stored, settings)
        if scores is None:
            return None
        if (scores.track, scores.split, scores.system, scores.sample_rate) != (
            *(self.track.name, self.track.split, system.name, self.sample_rate),
        ):
            return None
        frames = next(iter(scores.sources.values())).frames["sdr"]
        if len(frames) != self._num_frames():
            return None
        if self.settings.save_estimates:
            folder = self.estimates_folder(system)
            files = [folder / f"{source}.wav" for source in scores.sources]
            if not scores.estimates_saved or not all(file.is_file() for file in files):
                return None
        return scores

    def settings_of(self, system: System) -> dict[str, Any]:
        """Return everything that the scores of a system depend on, for JSON.

        Raises:
            ConfigError: Its files are ambiguous.
            DatasetError: They cannot be read.
        """
        return {
            "version": SCORING_VERSION,
            "metrics": self.settings.metrics,
            "equivariance": self.settings.equivariance and system.model is not None,
            "sources": list(self.sources),
            "stored_rate": self.track.sample_rate,
            "files": self.track.sha256,
            "system": system.settings(
                self.track.split,
                self.track.name,
                self.sources,
                allow_upsampled=self.settings.allow_upsampled,
            ),
        }

    def score(self, system: System, signals: TrackSignals) -> TrackScores:
        """Score a system.

        Raises:
            SfisepError: A track cannot be read, separated or scored.
        """
        settings = self.settings
        described = self.settings_of(system)  # before the files are read, since they may change
        estimates = make_estimates(
            system, signals, device=settings.device, allow_upsampled=settings.allow_upsampled
        )
        scores = score_track(
            signals,
            estimates,
            system=system.name,
            settings=described,
            metrics=settings.metrics,
            device=str(float64_device(torch.device(settings.device))),
        )
        if settings.equivariance and system.model is not None:
            scores = replace(scores, equivariance_db=self._equivariance(system, estimates))
        if settings.save_estimates:
            self._save(system, estimates)
            scores = replace(scores, estimates_saved=True)
        return scores

    def write(self, system: System, scores: TrackScores) -> None:
        """Write the scores of a system.

        Raises:
            DatasetError: They cannot be written.
        """
        path = self._path(system)
        try:
            write_track_scores(path, scores)
        except OSError as error:
            msg = f"scores {path}: cannot be written: {error.strerror}; choose another folder"
            raise DatasetError(msg) from error

    def is_native(self, system: System) -> bool:
        """Tell whether a system is the model at its native rate, where all methods are equal."""
        other_rate = "low_rate" in OPTIONS_OF.get(system.kind, ())  # may separate at another rate
        if system.model is None or system.kind not in METHODS or other_rate:
            return False
        return load(system.model, self.settings.device).native_rate == self.sample_rate

    def estimates_folder(self, system: System) -> Path:
        """Return the folder of a track's saved estimates."""
        rate, track = str(self.sample_rate), self.track
        return path_below(self.out, rate, system.folder, "estimates", track.split, track.name)

    def _num_frames(self) -> int:
        """Return the number of complete one-second frames, at least one."""
        length = resampled_length(
            self.track.frames, orig_rate=self.track.sample_rate, target_rate=self.sample_rate
        )
        return max(1, length // self.sample_rate)

    def _path(self, system: System) -> Path:
        rate, track = str(self.sample_rate), self.track
        return path_below(self.out, rate, system.folder, track.split, f"{track.name}.json")

    def _save(self, system: System, estimates: dict[str, Samples]) -> None:
        folder = self.estimates_folder(system)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"estimates {folder}: cannot be made: {error.strerror}; choose another folder"
            raise AudioFileError(msg) from error
        for source, stem in estimates.items():
            write_audio(
                path_below(folder, f"{source}.wav"),
                np.ascontiguousarray(stem),
                sample_rate=self.sample_rate,
                encoding="float32",
            )

    def _equivariance(self, system: System, estimates: dict[str, Samples]) -> float | None:
        assert system.model is not None
        model = load(system.model, self.settings.device)
        native_rate = model.native_rate
        if self.sample_rate == native_rate or self.track.sample_rate < native_rate:
            return None
        stems_at_native = native_stems(
            self.dataset,
            self.track,
            sources=self.sources,
            system=system,
            device=self.settings.device,
        )
        native = dict(zip(model.sources, stems_at_native, strict=True))
        native = as_scored(native, self.sources)
        stems = [estimates[source] for source in native]
        resampled = [
            resample(
                stem,
                orig_rate=native_rate,
                target_rate=self.sample_rate,
                length=stems[0].shape[-1],
            )
            for stem in native.values()
        ]
        at_native, at_rate = np.stack(resampled), np.stack(stems)
        if are_unnamed(self.sources):
            at_native = at_native[match_estimates(at_native, at_rate)]
        return equivariance_db(
            at_rate,
            at_native,
            sample_rate=self.sample_rate,
            native_rate=native_rate,
        )


def run_scoring_job(job: ScoringJob) -> tuple[int, list[Failure]]:
    """Compute missing scores of a track at a rate; return their number, and the failures."""
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    missing = job.missing()
    failures: list[Failure] = []

    def fail(systems: Sequence[System], error: SfisepError) -> None:
        for system in systems:
            name, rate = job.track.name, job.sample_rate
            failures.append(Failure(name, rate, system.name, str(error)))

    try:
        signals = read_signals(
            job.dataset, job.track, sources=job.sources, sample_rate=job.sample_rate
        )
    except SfisepError as error:
        fail(missing, error)
        return 0, failures
    at_native_rate: TrackScores | None = None
    for system in missing:
        try:
            is_native = job.is_native(system)
            if is_native and at_native_rate is not None and not job.settings.save_estimates:
                scores = replace(
                    at_native_rate, system=system.name, settings=job.settings_of(system)
                )
            else:
                scores = job.score(system, signals)
            at_native_rate = scores if is_native else at_native_rate
            job.write(system, scores)
        except SfisepError as error:
            fail([system], error)
    return len(missing) - len(failures), failures
