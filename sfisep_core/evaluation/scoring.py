"""Score systems on the tracks of a data set, at any sampling frequency, and keep every score.

The scores of a track are a file of their own, written as soon as they are known. A call does only
what is missing: a file counts if it can be read and was made with the same settings, from the same
audio and weights.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.manifest import PreparedTrack
from sfisep_core.devices import find_device
from sfisep_core.evaluation.pieces import Failure, Piece, Settings, score_piece
from sfisep_core.evaluation.systems import System, check_systems
from sfisep_core.evaluation.track_scores import TrackScores
from sfisep_core.foundation.workers import run_in_workers

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Evaluation:
    """What a call has found.

    Attributes:
        scores: All scores, old and new, in the order of rates, systems and tracks.
        failures: What could not be scored.
        computed: How many of the scores are new.
    """

    scores: list[TrackScores]
    failures: list[Failure]
    computed: int


def score_systems(
    dataset: StemDataset,
    tracks: Sequence[PreparedTrack],
    *,
    systems: Sequence[System],
    sample_rates: Sequence[int],
    sources: tuple[str, ...],
    out: Path,
    settings: Settings,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Evaluation:
    """Score systems on tracks at rates.

    Scores are in OUT/RATE/SYSTEM/SPLIT/TRACK.json.

    Args:
        dataset: The split, of whole tracks.
        tracks: Those of its tracks to score.
        systems: What to score.
        sample_rates: Hz.
        sources: Names of the sources, in order.
        out: Folder of the scores; made where it does not exist.
        settings: How to score.
        jobs: Processes, which share the processor's cores.
        progress: Called with what is done, what there is to do, and which track is next.

    Returns:
        The scores. What fails does not stop the rest.

    Raises:
        CheckpointError: A model cannot be loaded.
        ConfigError: There is no such device, or a network does not fit its model.
        DatasetError: A process was killed.
    """
    settings = replace(settings, device=str(find_device(settings.device)))
    pieces = [
        Piece(dataset, track, rate, sources, tuple(systems), settings, out)
        for track in tracks
        for rate in sample_rates
    ]
    missing = [(piece, piece.missing()) for piece in pieces]
    unfinished = [piece for piece, systems_left in missing if systems_left]
    processes = min(jobs, len(unfinished))
    needed = dict.fromkeys(system for _, systems_left in missing for system in systems_left)
    # The models are then in this process; other processes load them for themselves.
    check_systems(needed, settings.device if processes <= 1 else "cpu")
    if processes > 1:
        threads = max(1, (os.cpu_count() or 1) // processes)
        unfinished = [replace(piece, threads=threads) for piece in unfinished]
    failures: list[Failure] = []
    computed = 0
    work = run_in_workers(score_piece, unfinished, jobs=jobs)
    for done, (piece, (written, failed)) in enumerate(work, start=1):
        computed += written
        failures += failed
        if progress is not None:
            progress(done, len(unfinished), f"{piece.track.name} at {piece.sample_rate} Hz")
    scores = [
        found
        for rate in sample_rates
        for system in systems
        for piece in pieces
        if piece.sample_rate == rate and (found := piece.finished(system)) is not None
    ]
    names = [track.name for track in tracks]
    failures.sort(key=lambda f: (sample_rates.index(f.sample_rate), names.index(f.track)))
    return Evaluation(scores, failures, computed)
