import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from sfisep_core.data.datasets import StemDataset
from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.evaluation import scoring_jobs
from sfisep_core.evaluation.bss_eval import bss_eval
from sfisep_core.evaluation.plan import SOURCES, plan_systems
from sfisep_core.evaluation.ratios import si_sdr
from sfisep_core.evaluation.scoring import Evaluation, score_systems
from sfisep_core.evaluation.scoring_jobs import ScoringSettings
from sfisep_core.evaluation.study import ScoreKey
from sfisep_core.evaluation.systems import System, load
from sfisep_core.foundation.jobs import Execution
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.identity import identify_model
from sfisep_core.pretrained.model_files import load_model, save_model
from tests.evaluation.collecting import collect
from tests.evaluation.conftest import SAMPLE_RATE, SECONDS, stems_of

pytestmark = pytest.mark.slow

Evaluate = Callable[..., Evaluation]


@pytest.fixture
def run(dataset: StemDataset, tmp_path: Path) -> Evaluate:
    def run(
        systems: Sequence[System], *, sample_rates: Sequence[int] = (SAMPLE_RATE,), **settings: Any
    ) -> Evaluation:
        jobs = settings.pop("jobs", 1)
        tracks = dataset.tracks[: settings.pop("tracks", None)]
        settings.setdefault("metrics", "sdr")
        return score_systems(
            dataset,
            tracks,
            systems=systems,
            sample_rates=sample_rates,
            sources=SOURCES,
            out=tmp_path / "out",
            settings=ScoringSettings(**settings),
            execution=Execution(jobs=jobs),
        )

    return run


def write_estimates(folder: Path, track: int, *, skip: str = "", **settings: Any) -> np.ndarray:
    """Write stems with some noise in every one; give them, shape (source, channel, time)."""
    stems = stems_of(track)
    noise = np.random.default_rng(10 + track).uniform(-0.02, 0.02, stems.shape)
    stems = np.round((stems + noise) * 2**23) / 2**23
    place = folder / f"noise {track}"
    place.mkdir(parents=True)
    for name, stem in zip(SOURCES, stems, strict=True):
        if name != skip:
            audio = stem.T[: settings.get("frames")]
            rate = settings.get("sample_rate", SAMPLE_RATE)
            soundfile.write(place / f"{name}.wav", audio, rate, subtype="PCM_24")
    return stems


@pytest.fixture
def estimates(tmp_path: Path) -> Path:
    for track in range(3):
        write_estimates(tmp_path / "mine", track)
    return tmp_path / "mine"


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_scores_are_those_of_the_signals(run: Evaluate, tmp_path: Path) -> None:
    estimates = [write_estimates(tmp_path / "mine", track) for track in range(2)]
    found = run(plan_systems(None, [], estimates=[tmp_path / "mine"]), metrics="all", tracks=2)
    assert (found.computed, found.failures) == (2, [])
    for track, (scores, estimate) in enumerate(zip(found.scores, estimates, strict=True)):
        assert scores.track == f"noise {track}"
        assert scores.system == "mine"
        expected = bss_eval(
            stems_of(track).astype(np.float32),
            estimate.astype(np.float32),
            sample_rate=SAMPLE_RATE,
            sources=SOURCES,
        )
        for number, source in enumerate(SOURCES):
            of_source = scores.sources[source]
            for metric in ("sdr", "isr", "sir", "sar"):
                np.testing.assert_allclose(
                    of_source.frames[metric], getattr(expected, metric)[number], rtol=1e-9
                )
            if (track, source) == (1, "bass"):
                assert of_source.whole == {"leakage_db": expected.leakage_db["bass"]}
            else:
                value = si_sdr(estimate=estimate[number], reference=stems_of(track)[number])
                assert of_source.whole["si_sdr"] == pytest.approx(value, abs=1e-4)
    assert found.scores[1].silent_sources == ["bass"]


def test_mixture_and_oracle_need_no_model(run: Evaluate) -> None:
    scores = collect(run(plan_systems(None, ["mixture", "oracle-irm"])).scores)
    for source in SOURCES:
        of_mixture = scores[ScoreKey(SAMPLE_RATE, "mixture", source, "si_sdr")]
        of_oracle = scores[ScoreKey(SAMPLE_RATE, "oracle-irm", source, "si_sdr")]
        for track in of_mixture:
            # Equally loud noises of which three, in track 1 two, are in the way.
            interferers = 2 if track == "noise 1" else 3
            assert of_mixture[track] == pytest.approx(-10 * math.log10(interferers), abs=0.2)
            assert of_oracle[track] > of_mixture[track] + 3


def test_second_call_computes_nothing_and_changes_no_byte(
    run: Evaluate, estimates: Path, tmp_path: Path
) -> None:
    systems = plan_systems(None, ["mixture"], estimates=[estimates])
    first = run(systems)
    before = files_below(tmp_path / "out")
    second = run(systems)
    assert (first.computed, second.computed) == (6, 0)
    assert files_below(tmp_path / "out") == before
    assert [s.track for s in second.scores] == [s.track for s in first.scores]
    assert repr(second.scores) == repr(first.scores)  # NaN equals NaN


def test_stopped_run_is_finished_by_the_next(
    run: Evaluate, estimates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systems = plan_systems(None, ["mixture", "oracle-irm"], estimates=[estimates])
    run(systems)
    expected = files_below(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "complete")
    write, written = scoring_jobs.write_track_scores, []

    def write_some(path: Path, scores: Any) -> None:
        if len(written) == 4:
            raise KeyboardInterrupt
        write(path, scores)
        written.append(path)

    monkeypatch.setattr(scoring_jobs, "write_track_scores", write_some)
    with pytest.raises(KeyboardInterrupt):
        run(systems)
    monkeypatch.undo()
    assert len(files_below(tmp_path / "out")) == 4
    assert run(systems).computed == 5
    assert files_below(tmp_path / "out") == expected


@pytest.mark.parametrize(
    "damage",
    [
        "empty",
        "cut",
        "no scores",
        "other type",
        "no frames",
        "no frame but one",
        "another track",
        "no list",
        "deep",
    ],
)
def test_damaged_file_is_computed_again(run: Evaluate, tmp_path: Path, damage: str) -> None:
    systems = plan_systems(None, ["mixture"])
    run(systems)
    path = tmp_path / f"out/{SAMPLE_RATE}/mixture/test/noise 1.json"
    content = path.read_text()
    whole = json.loads(content)
    damaged = {
        "no frames": json.dumps(
            whole | {"targets": [t | {"frames": []} for t in whole["targets"]]}
        ),
        "another track": json.dumps(whole | {"sfisep": whole["sfisep"] | {"track": "noise 2"}}),
        "no list": json.dumps(whole | {"sfisep": whole["sfisep"] | {"silent_sources": None}}),
        "deep": "[" * 100_000,
        "no frame but one": json.dumps(
            whole | {"targets": [t | {"frames": t["frames"][:1]} for t in whole["targets"]]}
        ),
        "empty": "",
        "cut": content[: len(content) // 2],
        "no scores": json.dumps({"targets": [], "sfisep": {}}),
        "other type": "[1, 2]",
    }
    path.write_text(damaged[damage])
    assert run(systems).computed == 1
    assert path.read_text() == content


def test_other_settings_are_computed_again(run: Evaluate, estimates: Path, model: Path) -> None:
    tiny = identify_model(str(model))
    systems = plan_systems(tiny, ["native", "noisy-kernel"], estimates=[estimates])
    assert run(systems).computed == 9
    assert run(systems).computed == 0
    louder = replace(systems[1].options, kernel_noise_level=0.2)
    changed = [replace(system, options=louder) for system in systems]
    assert run(changed).computed == 3  # the level is noisy-kernel's alone
    soundfile.write(estimates / "noise 0/bass.wav", np.zeros((8, 2)), SAMPLE_RATE)
    assert run(changed).computed == 1
    assert run(changed, equivariance=True).computed == 6
    assert run(changed[:1], metrics="all", tracks=1).computed == 1


def test_other_weights_under_the_same_name_are_scored_again(
    run: Evaluate, model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "best.safetensors"
    shutil.copy(model, path)
    first = run(plan_systems(identify_model(str(path)), ["native"]), save_estimates=True)
    loaded = load_model(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        save_model(build_model(loaded.family, loaded.config_dict()), path)
    # In one process too, which has the first weights loaded.
    second = run(plan_systems(identify_model(str(path)), ["native"]))
    assert second.computed == 3
    whole = [found.scores[0].sources["drums"].whole for found in (first, second)]
    assert whole[0] != whole[1]
    # What was saved is of the first weights, though there is a file for each stem.
    again = run(plan_systems(identify_model(str(path)), ["native"]), save_estimates=True)
    assert again.computed == 3
    saved = tmp_path / f"out/{SAMPLE_RATE}/{tmp_path.name}-best.native/estimates"
    scores = run(plan_systems(None, [], estimates=[saved])).scores[0]
    assert scores.sources["drums"].whole == whole[1]


def test_weights_that_change_during_a_run_are_noticed(run: Evaluate, model: Path) -> None:
    described = replace(identify_model(str(model)), sha256="0")
    found = run(plan_systems(None, ["mixture"]))
    assert found.failures == []
    with pytest.raises(CheckpointError, match="stay what it is"):
        load(described, "cpu")


def test_estimates_from_another_folder_of_the_same_name_are_scored_again(
    run: Evaluate, tmp_path: Path
) -> None:
    for track in range(3):
        stems = write_estimates(tmp_path / "a/mine", track)
        place = tmp_path / f"b/mine/noise {track}"
        place.mkdir(parents=True)
        for name, stem in zip(SOURCES, stems[::-1], strict=True):
            soundfile.write(place / f"{name}.wav", stem.T, SAMPLE_RATE, subtype="PCM_24")
            old = (tmp_path / f"a/mine/noise {track}/{name}.wav").stat()
            os.utime(place / f"{name}.wav", ns=(old.st_atime_ns, old.st_mtime_ns))
    a, b = (run(plan_systems(None, [], estimates=[tmp_path / name / "mine"])) for name in "ab")
    assert (a.computed, b.computed) == (3, 3)
    assert b.scores[0].sources["drums"].whole["snr"] < 0 < a.scores[0].sources["drums"].whole["snr"]


def test_museval_flags_what_references_leave_open(
    run: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("museval", exc_type=(ImportError, RuntimeError))
    systems = plan_systems(None, ["mixture"])
    # Resampled, references hold little next to half the rate: a condition of 1e11.
    monkeypatch.setattr("sfisep_core.evaluation.bss_eval.CONDITION_LIMIT", 1e10)
    found = run(systems, metrics="museval", sample_rates=(5000,), tracks=2)
    assert [scores.ill_conditioned for scores in found.scores] == [True]
    assert [failure.track for failure in found.failures] == ["noise 1"]  # a silent source
    metrics = {key.metric for key in collect(found.scores)}
    # What museval gives is what was asked for.
    assert {"sdr", "isr", "sir", "sar"} <= metrics
    metrics = {key.metric for key in collect(run(systems, sample_rates=(5000,)).scores)}
    assert "sdr" in metrics
    assert not metrics & {"isr", "sir", "sar"}
    write_estimates(tmp_path / "mine", 0, skip="bass")
    failures = run(
        plan_systems(None, [], estimates=[tmp_path / "mine"]), metrics="museval"
    ).failures
    assert "found none of bass" in failures[0].message


def test_fewer_scores_of_what_is_stored_are_not_computed_again(run: Evaluate, model: Path) -> None:
    systems = plan_systems(identify_model(str(model)), ["resample"])
    asked: dict[str, Any] = {"tracks": 1, "sample_rates": (5000,)}
    every = run(systems, metrics="all", equivariance=True, **asked)
    fewer = run(systems, metrics="sdr", **asked)
    assert (every.computed, fewer.computed) == (1, 0)
    # They are what a call that stores nothing else gives, and the others stay.
    for scores, known in ((fewer.scores[0], False), (every.scores[0], True)):
        frames = scores.sources["drums"].frames
        assert np.isfinite(frames["sdr"]).all()
        assert np.isfinite(frames["isr"]).all() == known
        assert (scores.equivariance_db is not None) == known
    metrics = {key.metric for key in collect(fewer.scores)}
    assert "sdr" in metrics
    assert not metrics & {"isr", "sir", "sar", "equivariance_db"}
    again = run(systems, metrics="all", equivariance=True, **asked)
    assert again.computed == 0
    assert again.scores[0].equivariance_db == every.scores[0].equivariance_db


def test_processes_give_the_same(run: Evaluate, model: Path, tmp_path: Path) -> None:
    systems = plan_systems(identify_model(str(model)), ["native", "resample"])
    rates = (SAMPLE_RATE, 5000)
    one = run(systems, sample_rates=rates, equivariance=True, tracks=2)
    (tmp_path / "out").rename(tmp_path / "one")
    two = run(systems, sample_rates=rates, equivariance=True, tracks=2, jobs=2)
    assert (one.computed, two.computed) == (8, 8)
    for a, b in zip(one.scores, two.scores, strict=True):
        assert (a.track, a.system, a.sample_rate) == (b.track, b.system, b.sample_rate)
        for source in a.sources:
            np.testing.assert_allclose(
                list(a.sources[source].whole.values()),
                list(b.sources[source].whole.values()),
                rtol=1e-4,  # sums of fewer threads round in another order
            )
            assert a.sources[source].frames["sdr"] == pytest.approx(
                b.sources[source].frames["sdr"], rel=1e-4, nan_ok=True
            )
        assert a.equivariance_db == pytest.approx(b.equivariance_db, rel=1e-4)


def test_saved_estimates_give_the_same_scores(run: Evaluate, model: Path, tmp_path: Path) -> None:
    systems = plan_systems(identify_model(str(model)), ["resample"])
    first = run(systems, save_estimates=True)
    saved = tmp_path / f"out/{SAMPLE_RATE}/{systems[0].folder}/estimates"
    again = run(plan_systems(None, [], estimates=[saved]))
    for a, b in zip(first.scores, again.scores, strict=True):
        for source in SOURCES:
            assert a.sources[source].whole == b.sources[source].whole
    (saved / "test/noise 0/bass.wav").unlink()
    assert run(systems, save_estimates=True).computed == 1


def test_at_the_native_rate_methods_are_separated_once(
    run: Evaluate, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    make = scoring_jobs.make_estimates
    monkeypatch.setattr(
        scoring_jobs, "make_estimates", lambda *a, **k: made.append(a[0].kind) or make(*a, **k)
    )
    systems = plan_systems(identify_model(str(model)), ["native", "resample", "direct", "mixture"])
    found = run(systems, sample_rates=(6000,))
    assert made == ["native", "mixture"] * 3
    assert found.computed == 12
    by_system = {s.system: s.sources["vocals"].whole for s in found.scores[::3]}
    assert by_system["native"] == by_system["resample"] == by_system["direct"]
    assert by_system["native"] != by_system["mixture"]


def test_equivariance_is_that_of_the_methods(run: Evaluate, model: Path) -> None:
    systems = plan_systems(identify_model(str(model)), ["native", "resample", "direct", "mixture"])
    found = run(systems, sample_rates=(6000, 8000), equivariance=True)
    errors = {
        (s.sample_rate, s.system): s.equivariance_db for s in found.scores if s.track == "noise 0"
    }
    assert [errors[6000, name] for name in ("native", "mixture")] == [None, None]
    assert errors[8000, "mixture"] is None
    # Resampling to the native rate is what the other side does, too, with another filter.
    assert errors[8000, "resample"] < -14
    assert errors[8000, "native"] < -8
    assert errors[8000, "direct"] > -3


class TestEstimatesOfOthers:
    def test_longer_is_cut_and_shorter_filled_with_silence(
        self, run: Evaluate, tmp_path: Path
    ) -> None:
        whole = [write_estimates(tmp_path / "a/mine", track) for track in range(3)]
        for track in range(3):
            write_estimates(tmp_path / "b/mine", track, frames=SAMPLE_RATE)
            place = tmp_path / f"c/mine/noise {track}"
            place.mkdir(parents=True)
            for name, stem in zip(SOURCES, whole[track], strict=True):
                longer = np.concatenate([stem.T, np.ones((777, 2))])
                soundfile.write(place / f"{name}.wav", longer, SAMPLE_RATE, subtype="PCM_24")
        found = {
            name: run(plan_systems(None, [], estimates=[tmp_path / name / "mine"])).scores[0]
            for name in "abc"
        }
        sdr = {name: scores.sources["drums"].frames["sdr"] for name, scores in found.items()}
        assert sdr["c"] == sdr["a"]
        assert sdr["b"][0] == sdr["a"][0]
        assert math.isnan(sdr["b"][1])
        assert found["b"].sources["drums"].whole["snr"] == pytest.approx(
            10 * math.log10(SECONDS / (SECONDS - 1)), abs=0.1
        )

    def test_missing_source_is_not_scored_but_interferes(
        self, run: Evaluate, tmp_path: Path
    ) -> None:
        write_estimates(tmp_path / "all", 0)
        write_estimates(tmp_path / "some", 0, skip="other")
        systems = plan_systems(None, [], estimates=[tmp_path / "all", tmp_path / "some"])
        all_of_0, some_of_0 = run(systems, metrics="all", tracks=1).scores
        assert list(some_of_0.sources) == ["vocals", "drums", "bass"]
        assert some_of_0.silent_estimates == []
        for metric, frames in all_of_0.sources["vocals"].frames.items():
            np.testing.assert_allclose(some_of_0.sources["vocals"].frames[metric], frames)

    def test_missing_track_fails_alone(self, run: Evaluate, tmp_path: Path) -> None:
        for track in (0, 2):
            write_estimates(tmp_path / "mine", track)
        found = run(plan_systems(None, [], estimates=[tmp_path / "mine"]))
        assert [scores.track for scores in found.scores] == ["noise 0", "noise 2"]
        (failure,) = found.failures
        assert (failure.track, failure.system, failure.sample_rate) == ("noise 1", "mine", 8000)
        assert "mine/noise 1/STEM.wav" in failure.message

    def test_other_rate(self, run: Evaluate, tmp_path: Path) -> None:
        for track in range(3):
            write_estimates(tmp_path / "mine", track, sample_rate=6000)
        systems = plan_systems(None, [], estimates=[tmp_path / "mine"])
        found = run(systems)
        assert len(found.failures) == 3
        assert "expected 8000 Hz or more, got 6000 Hz" in found.failures[0].message
        assert run(systems, allow_upsampled=True).computed == 3
        assert run(systems, sample_rates=(5000,)).computed == 3

    def test_mono_estimate_is_on_both_channels(self, run: Evaluate, tmp_path: Path) -> None:
        for track in range(3):
            place = tmp_path / f"mine/test/noise {track}"
            place.mkdir(parents=True)
            for name, stem in zip(SOURCES, stems_of(track), strict=True):
                soundfile.write(place / f"{name}.flac", stem[0], SAMPLE_RATE, subtype="PCM_24")
        found = run(plan_systems(None, [], estimates=[tmp_path / "mine"]))
        # One channel of two is right, the other is another noise of the same level.
        assert found.scores[0].sources["drums"].whole["snr"] == pytest.approx(0, abs=0.2)

    def test_several_files_of_one_stem_are_refused(self, run: Evaluate, estimates: Path) -> None:
        soundfile.write(estimates / "noise 0/bass.flac", np.zeros((8, 2)), SAMPLE_RATE)
        found = run(plan_systems(None, [], estimates=[estimates]))
        assert [failure.track for failure in found.failures] == ["noise 0"]
        assert "one file for bass" in found.failures[0].message

    def test_wrong_channels_and_damaged_file(self, run: Evaluate, estimates: Path) -> None:
        soundfile.write(estimates / "noise 0/bass.wav", np.zeros((8, 3)), SAMPLE_RATE)
        (estimates / "noise 1/bass.wav").write_bytes(b"RIFF")
        found = run(plan_systems(None, [], estimates=[estimates]))
        assert [failure.track for failure in found.failures] == ["noise 0", "noise 1"]
        assert "expected 2 channels" in found.failures[0].message


def test_stem_missing_in_the_data_stops_its_track_only(run: Evaluate, dataset: StemDataset) -> None:
    dataset.tracks[0] = replace(dataset.tracks[0], stems=dict.fromkeys(SOURCES, "nowhere.wav"))
    found = run(plan_systems(None, ["mixture", "oracle-irm"]))
    assert found.computed == 4
    assert [(f.track, f.system) for f in found.failures] == [
        ("noise 0", "mixture"),
        ("noise 0", "oracle-irm"),
    ]


def test_plan_refuses() -> None:
    with pytest.raises(ConfigError, match="name one with --model"):
        plan_systems(None, ["resample"])
    with pytest.raises(ConfigError, match="expected one of native, resample"):
        plan_systems(None, ["resampel"])
    with pytest.raises(ConfigError, match="got none"):
        plan_systems(None, [])
    with pytest.raises(ConfigError, match="found none there"):
        plan_systems(None, [], estimates=[Path("nowhere")])
