"""Compose a song, separate it, and score the stems, as a demonstration of the program."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from sfisep_core.audio.files import read_audio
from sfisep_core.audio.resample import resample
from sfisep_core.data.demo_corpus import render_track, write_track
from sfisep_core.data.layouts import MIXTURE, STEMS
from sfisep_core.data.records import write_json
from sfisep_core.errors import AudioFileError, ConfigError
from sfisep_core.evaluation.bss_eval import bss_eval
from sfisep_core.evaluation.ratios import si_sdr
from sfisep_core.evaluation.study import Samples
from sfisep_core.evaluation.summary import over_frames
from sfisep_core.pretrained.identity import ModelIdentity, identify_model
from sfisep_core.pretrained.registry import known_sources
from sfisep_core.results import SeparatedFile
from sfisep_core.separation.separator import Output, Separator

Progress = Callable[[float, float, str], None]

DEMO_MODEL = "sfi-conv-tasnet-small"
"""It was taught by composed music, too; the voices of `default` were recorded ones alone."""
SONG_SAMPLE_RATE = 44100
SONG_SECONDS = 20.0
# A song that `DEMO_MODEL` has not learnt from (those had the seeds 0 and 1), and neither its
# best nor its worst. Of the first 20 songs of seed 2 it is the one whose table of scores has the
# smallest RMS distance, 0.7 dB, from the medians over the 20 songs. The table holds SI-SDR and SDR,
# and what both gain over the mixture, of four stems at 44.1 and 8 kHz.
_SEED, _TRACK = 2, 18

_MARK_NAME = "demo.json"
_MARK = {"schema": "sfisep-demo-1"}
_SONG = "song"


@dataclass(frozen=True)
class DemoRequest:
    """Request of `run_demo`.

    Attributes:
        out: Folder to write to: empty, of an earlier demo, or not existing yet.
        sample_rates: Hz, 4000 to 384000: rates to separate at, besides the song's own.
        model: Name or path of the model, as `resolve_model` takes it.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """

    out: Path
    sample_rates: tuple[int, ...] = (8000,)
    model: str = DEMO_MODEL
    device: str = "auto"


@dataclass(frozen=True)
class StemScore:
    """Scores of a separated stem against the true one, in dB.

    Attributes:
        sample_rate: Rate in Hz at which the song was separated and scored.
        stem: Name of the stem.
        si_sdr: SI-SDR over the whole song.
        si_sdr_improvement: The same minus the SI-SDR of the mixture.
        sdr: SDR as museval defines it: the median over frames of one second.
        sdr_improvement: The same minus the SDR of the mixture.
    """

    sample_rate: int
    stem: str
    si_sdr: float
    si_sdr_improvement: float
    sdr: float
    sdr_improvement: float


@dataclass(frozen=True)
class DemoResult:
    """Result of `run_demo`: files and scores.

    Attributes:
        model: The model used.
        device: Device of the computation.
        mixture: The song, the sum of its true stems.
        true_stems: File of each true stem, by name.
        separations: Files written at each rate, the song's own first.
        scores: Scores of each rate and stem, in the order of `separations`.
    """

    model: ModelIdentity
    device: str
    mixture: Path
    true_stems: dict[str, Path]
    separations: tuple[SeparatedFile, ...]
    scores: tuple[StemScore, ...]

    @property
    def failures(self) -> tuple[StemScore, ...]:
        """The stems whose scores are not better than those of the mixture."""
        return tuple(score for score in self.scores if not score.si_sdr_improvement > 0)


def run_demo(request: DemoRequest, *, progress: Progress | None = None) -> DemoResult:
    """Compose the demo song, separate it at several rates, and score every stem.

    Everything is written below `request.out`: the song and its true stems as `song/STEM.wav`, the
    separated stems as `MODEL/HZ/STEM.wav`, in floating point, so that they add up to the mixture.
    The same request always writes the same files.

    Args:
        request: What to show.
        progress: Called with seconds of music done, total seconds, and the current work.

    Returns:
        Files and scores. The references at a rate are the true stems, resampled like the mixture.

    Raises:
        AudioFileError: The folder cannot be written, or contains other files.
        CheckpointError: The model is missing or cannot be read.
        ConfigError: The model has other stems or cannot work at a rate, or the device is not
            available.
    """
    known = known_sources(request.model)
    if known is not None:  # checked before a model with other stems is downloaded or loaded
        _check_stems(request.model, known)
    separator = Separator(request.model, device=request.device)
    _check_stems(request.model, separator.sources)
    model = identify_model(request.model)
    _claim(request.out)
    stems = render_track(
        seed=_SEED, track=_TRACK, seconds=SONG_SECONDS, sample_rate=SONG_SAMPLE_RATE
    )
    song = _write_song(request.out / _SONG, stems)
    true_stems = np.stack([read_audio(song[name])[0] for name in STEMS])
    rates = tuple(dict.fromkeys((SONG_SAMPLE_RATE, *request.sample_rates)))
    separations: list[SeparatedFile] = []
    scores: list[StemScore] = []
    for number, sample_rate in enumerate(rates):

        def report(
            done: float, total: float, number: int = number, rate: int = sample_rate
        ) -> None:
            if progress is not None:
                progress(number * total + done, len(rates) * total, f"{rate} Hz")

        separated = separator.separate_file(
            song[MIXTURE],
            out_dir=request.out / model.label / str(sample_rate),
            sample_rate=sample_rate,
            output=Output(encoding="float32"),  # never scaled, so that the stems add up
            progress=report,
        )
        separations.append(separated)
        scores += _scores(true_stems, separated)
    return DemoResult(
        model=model,
        device=str(separator.device),
        mixture=song[MIXTURE],
        true_stems={name: song[name] for name in STEMS},
        separations=tuple(separations),
        scores=tuple(scores),
    )


def _check_stems(model: str, sources: Sequence[str]) -> None:
    foreign = [source for source in sources if source not in STEMS]
    if foreign:
        msg = (
            f"model {model}: expected stems of the demo song ({', '.join(STEMS)}), got "
            f"{', '.join(foreign)}: take a model whose stems have these names"
        )
        raise ConfigError(msg)


def _claim(out: Path) -> None:
    """Create the folder and mark it as a demo's; reject one that contains anything else."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        others = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
        if others and not _is_marked(out):
            msg = (
                f"output folder {out}: expected an empty folder or one of an earlier demo, found "
                f"{others[0]!r}: choose another folder"
            )
            raise AudioFileError(msg)
        # Also if the mark exists: a folder that cannot be written is detected before any work.
        write_json(out / _MARK_NAME, _MARK)
    except OSError as error:
        raise _unwritable(out, error) from error


def _is_marked(folder: Path) -> bool:
    try:
        content: object = json.loads((folder / _MARK_NAME).read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return False
    return content == _MARK


def _write_song(folder: Path, stems: dict[str, npt.NDArray[np.int16]]) -> dict[str, Path]:
    try:
        folder.mkdir(exist_ok=True)
        return write_track(folder, stems, SONG_SAMPLE_RATE)
    except (OSError, soundfile.SoundFileError) as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: Exception) -> AudioFileError:
    reason = error.strerror if isinstance(error, OSError) else error
    msg = (
        f"output folder {folder}: expected a folder that can be made and written to, got "
        f"{reason}: choose another folder"
    )
    return AudioFileError(msg)


def _scores(true_stems: Samples, separated: SeparatedFile) -> list[StemScore]:
    """Score the written files, and the mixture in place of every stem.

    Args:
        true_stems: Stems of the song, shape (source, channel, time), in the order of `STEMS`.
        separated: The written files.
    """
    sample_rate, names = separated.sample_rate, tuple(separated.stems)

    def resampled(signal: Samples) -> Samples:
        return resample(signal, orig_rate=SONG_SAMPLE_RATE, target_rate=sample_rate)

    references = np.stack([resampled(true_stems[STEMS.index(name)]) for name in names])
    # Exact: the samples and their sum, the mixture's file, have 16 bits.
    mixture = resampled(true_stems.sum(axis=0))
    estimates = np.stack([read_audio(path)[0] for path in separated.stems.values()])

    def score(signals: Samples) -> list[tuple[float, float]]:
        """Compute SI-SDR and SDR of every stem."""
        framewise = bss_eval(references, signals, sample_rate=sample_rate, metrics=("sdr",)).sdr
        return [
            (si_sdr(estimate=e, reference=s), over_frames(frames))
            for e, s, frames in zip(signals, references, framewise, strict=True)
        ]

    of_mixture = score(np.broadcast_to(mixture, estimates.shape))
    return [
        StemScore(
            sample_rate=sample_rate,
            stem=name,
            si_sdr=own[0],
            si_sdr_improvement=own[0] - start[0],
            sdr=own[1],
            sdr_improvement=own[1] - start[1],
        )
        for name, own, start in zip(names, score(estimates), of_mixture, strict=True)
    ]
