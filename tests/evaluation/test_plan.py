from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sfisep_core.data.datasets import StemDataset
from sfisep_core.errors import ConfigError, DatasetError
from sfisep_core.evaluation.examples import plan_excerpts
from sfisep_core.evaluation.plan import check_rates, plan_systems, select_tracks, stored_rate
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.identity import identify_model
from sfisep_core.pretrained.model_files import load_model, save_model


def test_tracks_are_selected_by_name_and_pattern(dataset: StemDataset) -> None:
    def names(*patterns: str) -> list[str]:
        return [track.name for track in select_tracks(dataset, patterns)]

    assert names() == ["noise 0", "noise 1", "noise 2"]
    assert names("noise 2", "noise 0") == ["noise 0", "noise 2"]
    assert names("*1") == ["noise 1"]
    with pytest.raises(DatasetError, match="expected a track 'music'"):
        names("noise 0", "music")


def test_brackets_are_no_wildcards(dataset: StemDataset) -> None:
    for number, name in enumerate(("live [19]", "live 1", "live [19] 2")):
        dataset.tracks[number] = replace(dataset.tracks[number], name=name)
    assert select_tracks(dataset, ["live [19]"]) == [dataset.tracks[0]]
    assert select_tracks(dataset, ["live [19]*"]) == [dataset.tracks[0], dataset.tracks[2]]


def test_rates(dataset: StemDataset) -> None:
    assert stored_rate(dataset.tracks) == 8000
    mixed = [*dataset.tracks, replace(dataset.tracks[0], sample_rate=44100)]
    with pytest.raises(ConfigError, match="8000 Hz, 44100 Hz: choose one with --sr"):
        stored_rate(mixed)
    check_rates(mixed, [4000, 8000], allow_upsampled=False)
    check_rates(mixed, [44100], allow_upsampled=True)
    with pytest.raises(ConfigError, match="got noise 0 at 8000 Hz"):
        check_rates(mixed, [8000, 16000], allow_upsampled=False)


def test_systems_have_one_folder_each(model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    systems = plan_systems(
        identify_model(str(model)),
        ["native", "resample", "native", "mixture"],
        estimates=[tmp_path / "mine"],
    )
    assert [(s.name, s.folder) for s in systems] == [
        ("native", f"{model.parent.name}-tiny.native"),
        ("resample", f"{model.parent.name}-tiny.resample"),
        ("mixture", "mixture"),
        ("mine", "estimates.mine"),
    ]
    (tmp_path / "other/mine").mkdir(parents=True)
    with pytest.raises(ConfigError, match="different names, got mine, mine"):
        plan_systems(None, [], estimates=[tmp_path / "mine", tmp_path / "other/mine"])


def test_model_of_other_sources_is_refused(model: Path, tmp_path: Path) -> None:
    loaded = load_model(model)
    settings = loaded.config_dict() | {"sources": ["speech", "noise"]}
    with torch.random.fork_rng(devices=[]):
        save_model(build_model(loaded.family, settings), tmp_path / "speech.safetensors")
    with pytest.raises(ConfigError, match="got speech, noise"):
        plan_systems(identify_model(str(tmp_path / "speech.safetensors")), ["native"])


class TestExcerpts:
    def test_range_of_a_track(self, dataset: StemDataset) -> None:
        (excerpt,) = plan_excerpts(dataset.tracks, ["noise 1:0.5-2"])
        assert (excerpt.track.name, excerpt.start, excerpt.stop) == ("noise 1", 0.5, 2)

    def test_liveliest_seconds(self, dataset: StemDataset) -> None:
        activity = {stem: [0.0] * 4 + [0.1] * 8 for stem in dataset.tracks[0].activity}
        activity["bass"] = [0.2] * 6 + [0.0] * 6
        track = replace(dataset.tracks[0], frames=12 * 8000, activity=activity)
        (excerpt,) = plan_excerpts([dataset.tracks[1], track], [])
        # Bass plays until 6 s, the others from 4 s on: both for two seconds, whatever the start.
        assert excerpt.track is track
        assert excerpt.start <= 4
        assert excerpt.stop == excerpt.start + 6

    def test_short_track_is_taken_whole(self, dataset: StemDataset) -> None:
        (excerpt,) = plan_excerpts(dataset.tracks, ["noise 2"])
        assert (excerpt.start, excerpt.stop) == (0, 2.25)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("noise 9", "a track that is scored"),
            ("noise 0:1.2.3-2", "a track that is scored"),
            ("noise 0:2-1", "START before END"),
            ("noise 0:1-4", "0-2.25 s"),
        ],
    )
    def test_refused(self, dataset: StemDataset, text: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            plan_excerpts(dataset.tracks, [text])
