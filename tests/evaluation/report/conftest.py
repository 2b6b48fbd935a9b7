"""A small study whose names need escaping."""

from dataclasses import replace

import numpy as np
import pytest

from sfisep_core.evaluation.study import ALL_SOURCES, Example, ScoreKey, Study
from sfisep_core.evaluation.summary import compare
from sfisep_core.evaluation.tables import summarise_scores

SAMPLE_RATES = (8000, 11025, 16000)
SYSTEMS = ("native", "resample")
SOURCES = ("vocals", "bass & drums")
TRACKS = ('<b>"Ä"</b> & co', "音楽", "three", "four", "five")
METRICS = ("sdr", "si_sdr", "si_sdr_common_band", "snr")


def make_example() -> Example:
    """One second of two tones at 8 kHz; one estimate is missing, and the mixture would clip."""
    time = np.arange(8000) / 8000
    tones = np.stack([[np.sin(2 * np.pi * f * time)] * 2 for f in (440, 1000)])
    vocals, bass = (0.9 * tones).astype(np.float32)
    return Example(
        track=TRACKS[0],
        start=12.5,
        sample_rate=8000,
        mixture=vocals + bass,
        references={SOURCES[0]: vocals, SOURCES[1]: bass},
        estimates={
            "native": {SOURCES[0]: vocals + 0.1 * bass, SOURCES[1]: 0.5 * bass},
            "resample": {SOURCES[0]: np.zeros_like(vocals)},
        },
    )


@pytest.fixture(scope="session")
def study() -> Study:
    rng = np.random.default_rng(0)
    scores = {
        ScoreKey(rate, system, source, metric): {
            track: float(rng.normal(5 - SYSTEMS.index(system), 1)) for track in TRACKS
        }
        for rate in SAMPLE_RATES
        for system in SYSTEMS
        for source in (*SOURCES, ALL_SOURCES)
        for metric in METRICS
    }
    for system in SYSTEMS:
        for rate in (8000, 11025):
            key = ScoreKey(rate, system, ALL_SOURCES, "equivariance_db")
            scores[key] = {track: float(rng.normal(-30, 2)) for track in TRACKS}
    # A score that nobody has, one that is missing, and values that do not exist.
    scores[ScoreKey(8000, "resample", SOURCES[0], "si_sdr")] = {}
    del scores[ScoreKey(8000, "resample", SOURCES[1], "si_sdr")]
    scores[ScoreKey(11025, "resample", SOURCES[0], "si_sdr")] = dict.fromkeys(TRACKS, float("nan"))
    scores[ScoreKey(16000, "native", SOURCES[0], "si_sdr")][TRACKS[0]] = float("-inf")
    return Study(
        model="<default> & 'mine'",
        model_sha256="0123abcd" * 8,
        native_rate=16000,
        data="5 tracks of <data>",
        systems=SYSTEMS,
        sample_rates=SAMPLE_RATES,
        sources=SOURCES,
        tracks=TRACKS,
        scores=scores,
        summaries=summarise_scores(scores),
        differences={
            (key, "resample"): compare(values, scores.get(key._replace(system="resample"), {}))
            for key, values in scores.items()
            if key.system == "native"
        },
        examples=[make_example()],
    )


@pytest.fixture(scope="session")
def bare_study(study: Study) -> Study:
    """Nothing but one score of one system at one rate."""
    key = ScoreKey(8000, "native", SOURCES[0], "si_sdr")
    scores = {key: {TRACKS[0]: 3.0}}
    return replace(
        study,
        systems=("native",),
        sample_rates=(8000,),
        scores=scores,
        summaries=summarise_scores(scores),
        differences={},
        examples=[],
    )
