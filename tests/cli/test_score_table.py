"""The table of scores at the widths of terminals."""

from pathlib import Path

import pytest

from sfisep_cli.score_table import score_lines
from sfisep_core.evaluation.requests import ScoringResult
from sfisep_core.evaluation.systems import System
from sfisep_core.evaluation.tables import compare_systems
from sfisep_core.evaluation.track_scores import SourceScores, TrackScores
from sfisep_core.pretrained.identity import ModelIdentity

MUSIC = ("vocals", "drums", "bass", "other")
METHODS = ("native", "resample", "soxr", "noisy-kernel", "post-noise", "direct")
LEVEL = -12.34  # as wide as scores are


def made(
    *,
    sources: tuple[str, ...] = MUSIC,
    methods: tuple[str, ...] = METHODS,
    sample_rates: tuple[int, ...] = (8000, 16000),
    tracks: int = 2,
    silent: str = "",
    metrics: tuple[str, ...] = ("si_sdr",),
    model: str = "default",
) -> ScoringResult:
    scores = [
        TrackScores(
            track=f"track {track}",
            split="test",
            system=method,
            sample_rate=rate,
            settings={"sources": list(sources)},
            sources={
                source: SourceScores({"sdr": [LEVEL]}, dict.fromkeys(metrics, LEVEL))
                for source in sources
                if not (track == 0 and source == silent)
            },
            silent_sources=[],
            silent_estimates=[],
            num_silent_frames=0,
            condition=1.0,
            ill_conditioned=False,
        )
        for rate in sample_rates
        for method in methods
        for track in range(tracks)
    ]
    identity = ModelIdentity(model, "0" * 64, "sfi-conv-tasnet", sources, 32000)
    return ScoringResult(
        systems=[System(name, name, name, identity) for name in methods],
        sources=sources,
        scores=scores,
        failures=[],
        computed=len(scores),
        missing=0,
        comparison=compare_systems(scores, methods),
        tables={"tracks": [f"track {track}" for track in range(tracks)]},
        out=Path("out"),
        folder=Path("out"),
    )


@pytest.mark.parametrize("width", [80, 120])
def test_default_study_has_one_line_a_rate_and_method(width: int) -> None:
    lines = score_lines(made(), width=width)
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if line.startswith("default ")]
    assert len(rows) == 2 * len(METHODS)
    assert all(row.split()[2:] == [f"{LEVEL}"] * 8 for row in rows)
    assert lines[0] == "SDR and SI-SDR in dB, median over 2 tracks"
    assert [line for line in lines if line.endswith("Hz")] == ["8000 Hz", "16000 Hz"]


def test_headings_stand_above_their_numbers() -> None:
    _, stems, metrics, _, row = score_lines(
        made(methods=("native",), sample_rates=(8000,)), width=80
    )
    ends = [stems.index(name) + len(name) for name in MUSIC]
    assert [metrics.rindex("SI-SDR", 0, end) + len("SI-SDR") for end in ends] == ends
    assert all(row[end - len(f"{LEVEL}") : end] == f"{LEVEL}" for end in ends)


def test_what_does_not_fit_follows_below_evenly() -> None:
    sources = (*MUSIC, "piano", "guitar")
    lines = score_lines(made(sources=sources, methods=("native",)), width=80)
    assert max(map(len, lines)) <= 80
    heads = [line.split() for line in lines if "vocals" in line or "other" in line]
    assert heads == [["vocals", "drums", "bass"], ["other", "piano", "guitar"]]


def test_long_names_are_never_cut() -> None:
    model = "a-model-whose-name-takes-the-whole-line-of-a-terminal-and-more-than-that-as-well"
    lines = score_lines(made(model=model, methods=("native",)), width=80)
    assert sum(line.startswith(f"{model} native  ") for line in lines) == 2 * len(MUSIC)


def test_stems_that_not_all_tracks_have_are_marked() -> None:
    lines = score_lines(made(silent="bass"), width=80)
    assert lines[1].split() == ["vocals", "drums", "bass*", "other"]
    assert lines[-1].startswith("* fewer tracks have a score")
    alone = score_lines(made(silent="bass", tracks=1, methods=("native",)), width=80)
    assert alone[0] == "SDR and SI-SDR in dB, 1 track"
    assert alone[-2].split()[6:8] == ["-", "-"]


def test_speakers_have_improvements() -> None:
    metrics = ("si_sdr", "si_snr_improvement", "sdr_improvement")
    lines = score_lines(made(sources=("s1", "s2"), metrics=metrics), width=80)
    assert lines[0] == "SI-SNRi and SDRi in dB, median over 2 tracks"


def test_nothing_scored_has_no_table() -> None:
    assert score_lines(made(tracks=0), width=80) == []
