import csv
import io
import json
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfisep_core.evaluation import tables as tables_module
from sfisep_core.evaluation.metrics import WHOLE_TRACK_METRICS
from sfisep_core.evaluation.score_files import read_track_scores, write_track_scores
from sfisep_core.evaluation.scoring import Evaluation
from sfisep_core.evaluation.scoring_jobs import Failure
from sfisep_core.evaluation.study import ALL_SOURCES, ScoreKey
from sfisep_core.evaluation.tables import (
    compare_systems,
    make_tables,
    summarise_scores,
    summary_rows,
    to_json,
    write_tables,
)
from sfisep_core.evaluation.track_scores import (
    SourceScores,
    TrackScores,
)
from tests.evaluation.collecting import collect

NAN = math.nan


def scores(
    track: int,
    *,
    system: str = "a",
    sdr: dict[str, list[float]],
    si_sdr: dict[str, float] | None = None,
    leakage: dict[str, float] | None = None,
    ill_conditioned: bool = False,
    equivariance_db: float | None = None,
    sources: list[str] | None = None,
    metrics: str = "all",
) -> TrackScores:
    whole = {name: {"si_sdr": value} for name, value in (si_sdr or {}).items()}
    whole |= {name: {"leakage_db": value} for name, value in (leakage or {}).items()}
    frames = len(next(iter(sdr.values())))
    filtered = {key: [1.0] * frames for key in ("isr", "sir", "sar")}
    return TrackScores(
        track=f"track {track}",
        split="test",
        system=system,
        sample_rate=8000,
        settings={
            "sources": ["drums", "bass"] if sources is None else sources,
            "metrics": metrics,
        },
        sources={
            name: SourceScores({"sdr": of_source, **filtered}, whole.get(name, {}))
            for name, of_source in sdr.items()
        },
        silent_sources=list(leakage or {}),
        silent_estimates=[],
        num_silent_frames=2,
        condition=1e13 if ill_conditioned else 10.0,
        ill_conditioned=ill_conditioned,
        equivariance_db=equivariance_db,
    )


def key(source: str, metric: str = "sdr", *, system: str = "a") -> ScoreKey:
    return ScoreKey(8000, system, source, metric)


def tables_of(evaluation: Evaluation, systems: list[str]) -> dict[str, Any]:
    comparison = compare_systems(evaluation.scores, systems)
    return make_tables(evaluation, comparison, systems, {"command": "evaluate"})


def test_frames_are_summed_up_by_their_median() -> None:
    found = collect([scores(0, sdr={"drums": [1, NAN, 3, 10, math.inf], "bass": [2, 2, 2, 2, 2]})])
    assert found[key("drums")] == {"track 0": 3}
    assert found[key("bass")] == {"track 0": 2}
    assert found[key(ALL_SOURCES)] == {"track 0": 2.5}


def test_mean_over_sources_leaves_out_silent_ones_but_no_failed_ones() -> None:
    of_silent = scores(0, sdr={"drums": [4.0], "bass": [NAN]}, leakage={"bass": -30.0})
    of_failed = scores(1, sdr={"drums": [4.0], "bass": [NAN]})
    found = collect([of_silent, of_failed])
    assert found[key(ALL_SOURCES)]["track 0"] == 4
    assert "track 1" not in found[key(ALL_SOURCES)]
    assert key("bass") not in found
    assert found[key("bass", "leakage_db")] == {"track 0": -30}
    assert key(ALL_SOURCES, "leakage_db") not in found


def test_ill_conditioned_scores_are_left_out() -> None:
    good, bad = (
        scores(n, sdr={"drums": [4.0]}, ill_conditioned=n == 1, sources=["drums"]) for n in range(2)
    )
    found = collect([good, bad])
    for metric in ("isr", "sir", "sar"):
        assert found[key("drums", metric)] == {"track 0": 1}
    assert set(found[key("drums")]) == {"track 0", "track 1"}
    (row,) = tables_of(Evaluation([good, bad], [], 0), ["a"])["notes"]
    assert (row["tracks"], row["ill_conditioned"], row["silent_frames"]) == (2, 1, 4)


def test_ill_conditioned_scores_of_museval_are_shown_and_counted() -> None:
    bad = scores(
        0, sdr={"drums": [4.0]}, ill_conditioned=True, sources=["drums"], metrics="museval"
    )
    found = collect([bad])
    for metric in ("isr", "sir", "sar"):
        assert found[key("drums", metric)] == {"track 0": 1}
    (row,) = tables_of(Evaluation([bad], [], 0), ["a"])["notes"]
    assert row["ill_conditioned"] == 1


def test_mean_over_sources_needs_an_estimate_of_each() -> None:
    found = collect([scores(0, sdr={"drums": [4.0]}), scores(1, sdr={"drums": [4.0], "bass": [2]})])
    assert found[key(ALL_SOURCES)] == {"track 1": 3}


def test_differences_are_over_the_frames_that_both_have() -> None:
    """One system's silence takes frames out of all its sources, the easy ones or the hard ones."""
    of_a = scores(0, sdr={"drums": [0.0, 20.0, 0.0, 20.0], "bass": [1.0] * 4})
    of_b = scores(
        0, system="b", sdr={"drums": [NAN, 20.0, NAN, 20.0], "bass": [NAN, 1.0, NAN, 1.0]}
    )
    found = compare_systems([of_a, of_b], ["a", "b"]).differences[key("drums"), "b"]
    assert (found.mean, found.ahead, found.tracks) == (0, 0, 1)
    assert collect([of_a])[key("drums")]["track 0"] == 10


def test_ahead_is_lower_where_lower_is_better() -> None:
    tracks = [
        scores(n, system=system, sdr={"drums": [1.0], "bass": [NAN]}, leakage={"bass": level})
        for system, level in (("a", -40.0), ("b", -10.0))
        for n in range(3)
    ]
    found = compare_systems(tracks, ["a", "b"]).differences
    assert found[key("bass", "leakage_db"), "b"].ahead == 3
    assert found[key("bass", "leakage_db"), "b"].mean == -30


def test_leakage_of_nothing_counts() -> None:
    tracks = [
        scores(n, sdr={"drums": [1.0], "bass": [NAN]}, leakage={"bass": level})
        for n, level in enumerate((-math.inf, -math.inf, -10.0))
    ]
    (row,) = (
        r for r in summary_rows(summarise_scores(collect(tracks))) if r["metric"] == "leakage_db"
    )
    assert (row["median"], row["tracks"], row["high"]) == (-math.inf, 3, -10)


def write_some_tables(tmp_path: Path) -> dict[str, Any]:
    tracks = [
        scores(
            n, system=system, sdr={"drums": [level]}, si_sdr={"drums": silent}, sources=["drums"]
        )
        for system, levels in (("a", (1.0, 2.0, 9.0)), ("b", (0.5, 2.5, 7.0)))
        for n, (level, silent) in enumerate(zip(levels, (-math.inf, 1.0, 2.0), strict=True))
    ]
    evaluation = Evaluation(tracks, [Failure("track 3", 8000, "a", "broken")], 6)
    tables = tables_of(evaluation, ["a", "b"])
    write_tables(tmp_path, tables, collect(tracks))
    return tables


def test_tables(tmp_path: Path) -> None:
    tables = write_some_tables(tmp_path)
    row = next(r for r in tables["scores"] if r["metric"] == "sdr" and r["system"] == "a")
    assert (row["median"], row["mean"], row["tracks"]) == (2, 4, 3)
    (difference,) = (
        r for r in tables["differences"] if (r["metric"], r["source"]) == ("sdr", "drums")
    )
    assert (difference["system"], difference["minus"]) == ("a", "b")
    assert difference["mean"] == pytest.approx((0.5 - 0.5 + 2) / 3)
    assert (difference["ahead"], difference["tracks"]) == (2, 3)
    # A silent estimate is the worst, not left out.
    of_si_sdr = next(r for r in tables["scores"] if r["metric"] == "si_sdr")
    assert (of_si_sdr["median"], of_si_sdr["mean"], of_si_sdr["tracks"]) == (1, -math.inf, 3)
    assert '"mean": null' in to_json({"rows": [of_si_sdr]})
    assert tables["failures"][0]["message"] == "broken"
    assert "|s|^2" in tables["definitions"]["sdr"]["definition"]


def test_files(tmp_path: Path) -> None:
    tables = write_some_tables(tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text()) == json.loads(to_json(tables))
    for name in ("summary", "differences"):
        rows = list(csv.DictReader(io.StringIO((tmp_path / f"{name}.csv").read_text())))
        assert len(rows) == len(tables["scores" if name == "summary" else "differences"])
    tracks = list(csv.DictReader(io.StringIO((tmp_path / "tracks.csv").read_text())))
    values = [float(r["value"]) for r in tracks if (r["metric"], r["system"]) == ("si_sdr", "a")]
    assert values == [-math.inf, 1, 2] * 2  # of the drums, and of the mean


def test_nothing_scored_still_gives_tables(tmp_path: Path) -> None:
    tables = tables_of(Evaluation([], [], 0), ["a"])
    write_tables(tmp_path, tables, {})
    assert json.loads((tmp_path / "summary.json").read_text())["scores"] == []


def museval_store() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        museval = pytest.importorskip("museval", exc_type=(ImportError, RuntimeError))
        return museval.EvalStore(frames_agg="median", tracks_agg="median")


@pytest.mark.slow
def test_museval_reads_the_files_and_finds_the_same_medians(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    tracks = []
    for number in range(5):
        frames = generator.normal(5, 3, (2, 4, 7))
        frames[generator.random(frames.shape) < 0.2] = NAN
        tracks.append(
            TrackScores(
                track=f"track {number}",
                split="test",
                system="a",
                sample_rate=8000,
                settings={"sources": ["drums", "bass"]},
                sources={
                    name: SourceScores(
                        dict(zip(("sdr", "isr", "sir", "sar"), of_source.tolist(), strict=True)),
                        {},
                    )
                    for name, of_source in zip(("drums", "bass"), frames, strict=True)
                },
                silent_sources=[],
                silent_estimates=[],
                num_silent_frames=0,
                condition=1.0,
                ill_conditioned=False,
            )
        )
        write_track_scores(tmp_path / f"test/track {number}.json", tracks[-1])
    store = museval_store()
    store.add_eval_dir(tmp_path)
    theirs = store.agg_frames_tracks_scores()
    ours = tables_of(Evaluation(tracks, [], 5), ["a"])["scores"]
    compared = 0
    for row in ours:
        if row["source"] != ALL_SOURCES:
            expected = theirs[row["source"], row["metric"].upper()]
            assert row["median"] == pytest.approx(expected, abs=1e-12)
            compared += 1
    assert compared == 8


def test_file_follows_the_schema_of_museval(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    museval_store()
    import museval

    write_track_scores(tmp_path / "a.json", scores(0, sdr={"drums": [1.0, NAN, math.inf]}))
    content = json.loads((tmp_path / "a.json").read_text())
    schema = json.loads((Path(museval.__file__).parent / "musdb.schema.json").read_text())
    jsonschema.validate(content, schema)
    frames = content["targets"][0]["frames"]
    assert [frame["time"] for frame in frames] == [0, 1, 2]
    assert math.isnan(frames[2]["metrics"]["SDR"])  # museval has no infinite scores


def test_file_gives_back_what_was_written(tmp_path: Path) -> None:
    written = scores(
        3,
        sdr={"drums": [1 / 3, -2.0], "bass": [0.0, 5.0]},
        si_sdr={"drums": -math.inf},
        leakage={"bass": -math.inf},
        equivariance_db=-12.5,
    )
    written.sources["drums"].whole.update(dict.fromkeys(WHOLE_TRACK_METRICS, 1.5))
    write_track_scores(tmp_path / "a.json", written)
    assert read_track_scores(tmp_path / "a.json") == written
    del written.sources["drums"].whole["snr"]
    write_track_scores(tmp_path / "a.json", written)
    assert read_track_scores(tmp_path / "a.json") is None  # not all of its scores
    assert read_track_scores(tmp_path / "b.json") is None


@pytest.mark.slow
def test_score_files_with_hostile_numbers_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    whole = {"vocals": 2.5}
    written = replace(scores(1, sdr={"vocals": [1.5]}, si_sdr=whole), num_silent_frames=12345)
    written.sources["vocals"].whole.update(dict.fromkeys(WHOLE_TRACK_METRICS, 2.5))
    write_track_scores(path, written)
    text = path.read_text()
    assert read_track_scores(path) is not None
    for value in ("12345", "1.5", "2.5"):
        for hostile in ("9" * 400, "9" * 5000, "null", "[]", "{}", "[" * 10**5 + "]" * 10**5):
            path.write_text(text.replace(value, hostile))
            assert read_track_scores(path) is None
    path.write_text(text.replace("12345", "-1"))
    assert read_track_scores(path) is None


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-song", "'-song"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'\t=1"),
        ("a=b", "a=b"),
        (-1.5, -1.5),
        (-3, -3),
    ],
)
def test_names_are_no_formulas_and_numbers_stay_numbers(value: object, cell: object) -> None:
    assert tables_module._cell(value) == cell


def test_names_in_csv_files_are_no_formulas(tmp_path: Path) -> None:
    key = ScoreKey(8000, "=model", "vocals", "SDR")
    rows = [{"system": "=model", "median": -1.5}]
    write_tables(tmp_path, {"scores": rows, "differences": []}, {key: {"@track": -2.5}})
    assert (tmp_path / "summary.csv").read_text() == "system,median\n'=model,-1.5\n"
    lines = (tmp_path / "tracks.csv").read_text().splitlines()
    assert "'=model" in lines[1]
    assert lines[1].endswith("'@track,-2.5")
