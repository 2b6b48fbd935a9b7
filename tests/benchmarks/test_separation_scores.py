import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sfisep_core.models.blocks.tcn import TCNConfig
from sfisep_core.models.sfi_conv_tasnet import SFIConvTasNet, SFIConvTasNetConfig
from sfisep_core.pretrained.native import save_model
from tests.benchmarks import separation_scores
from tests.benchmarks.separation_page import (
    METHODS,
    ItemKey,
    Scores,
    make_page,
    not_beaten,
    paired_differences,
    values_of,
)
from tests.benchmarks.separation_scores import (
    Audio,
    Item,
    Manifest,
    load_scores,
    read_item,
    read_manifest,
    save_scores,
    score_stems,
    untrained_model,
)

FRAMES = 800
_PHASE = 2 * np.pi * np.arange(FRAMES) / FRAMES


def tone(periods: int, amplitude: float = 1.0) -> Audio:
    """Tones of different whole periods are orthogonal and equally loud."""
    one = np.sin(periods * _PHASE) * amplitude
    return np.stack([one, one]).astype(np.float32)


def small_config(gain_rule: str = "least-squares") -> SFIConvTasNetConfig:
    return SFIConvTasNetConfig(
        num_filters=16,
        trunk="shared",
        mask="free",
        gain_rule=gain_rule,  # type: ignore[arg-type]
        tcn=TCNConfig(bottleneck_channels=8, hidden_channels=8, num_layers=1, num_stacks=1),
    )


# --- the manifest


def test_manifest_says_what_is_scored() -> None:
    manifest = read_manifest()
    assert manifest.sample_rate == 48000
    assert manifest.stems == ("vocals", "drums", "bass", "other")
    assert manifest.silent_below_db == -60.0
    assert {item.group for item in manifest.items} == set(manifest.groups) == {"rendered", "real"}
    assert len({item.key for item in manifest.items}) == len(manifest.items)


def test_manifest_holds_all_validation_music(shared_dir: Path) -> None:
    music = shared_dir / "music"
    if not music.is_dir():
        pytest.skip("no music among the reference data")
    rendered = json.loads((music / "rendered/manifest.json").read_text(encoding="utf-8"))
    real = json.loads((music / "real/manifest.json").read_text(encoding="utf-8"))
    expected = {
        Item(
            "rendered",
            f"rendered/valid/{window['song']}_w{window['window']:02d}",
            0.0,
            float(window["seconds"]),
        )
        for window in rendered["windows"]
        if window["split"] == "valid"
    } | {
        Item(
            "real",
            f"real/train/{valid['song']}",
            valid["start_seconds"],
            valid["end_seconds"] - valid["start_seconds"],
        )
        for valid in real["valid"]
    }
    manifest = read_manifest()
    assert set(manifest.items) == expected
    for item in manifest.items:
        for stem in manifest.stems:
            info = soundfile.info(music / item.path / f"{stem}.opus")
            assert (info.samplerate, info.channels) == (manifest.sample_rate, 2)
            if item.group == "rendered":
                assert info.frames == round(item.seconds * info.samplerate)
            else:
                assert info.frames >= round((item.start + item.seconds) * info.samplerate)


# --- scoring


def test_scores_of_known_estimates() -> None:
    # Three equally loud orthogonal stems: as an estimate, the mixture has -10 log10(2) = -3.01 dB.
    references = {"vocals": tone(3), "drums": tone(5), "bass": tone(7)}
    references["other"] = np.zeros_like(references["vocals"])
    mixture = tone(3) + tone(5) + tone(7)
    estimates = {
        "vocals": 0.5 * tone(3) + 0.05 * tone(11),  # 20 dB, at any scale
        "drums": tone(5) + tone(3) + tone(7),  # the mixture itself
        "bass": np.zeros_like(mixture),
        "other": mixture / np.float32(4),
    }
    scores = score_stems(
        mixture=mixture, references=references, estimates=estimates, silent_below_db=-60.0
    )
    assert scores["vocals"]["si_sdr"] == pytest.approx(20.0, abs=1e-3)
    assert scores["vocals"]["improvement"] == pytest.approx(20.0 + 10 * math.log10(2), abs=1e-3)
    assert scores["drums"]["si_sdr"] == pytest.approx(-10 * math.log10(2), abs=1e-3)
    assert scores["drums"]["improvement"] == pytest.approx(0.0, abs=1e-3)
    assert scores["bass"] == {"si_sdr": -200.0, "improvement": -200.0}
    assert scores["other"] == {"leakage_db": pytest.approx(-20 * math.log10(4), abs=1e-3)}


@pytest.mark.parametrize(("level_db", "kind"), [(-60.1, "leakage_db"), (-59.9, "si_sdr")])
def test_a_stem_is_silent_below_the_manifest_level(level_db: float, kind: str) -> None:
    mixture = tone(3)
    quiet = tone(3, 10 ** (level_db / 20))
    scores = score_stems(
        mixture=mixture,
        references={"bass": quiet},
        estimates={"bass": mixture},
        silent_below_db=-60.0,
    )
    assert kind in scores["bass"]


# --- the untrained network


def test_untrained_network_is_the_same_every_time_and_mixture_consistent() -> None:
    model = SFIConvTasNet(small_config())
    state = torch.get_rng_state()
    first, second = untrained_model(model), untrained_model(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.gain_rule == "mixture-consistent"
    assert first.config == dataclasses.replace(small_config(), gain_rule="mixture-consistent")
    weights = second.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in first.state_dict().items())
    own = model.state_dict()
    assert not torch.equal(own["masker.conv_out.weight"], weights["masker.conv_out.weight"])


# --- the store


def test_stored_scores_come_back(tmp_path: Path) -> None:
    scores: dict[str, Scores] = {
        "ab12": {
            ItemKey("SFI", 8000, "song@0+30"): {"bass": {"si_sdr": 1.5, "improvement": 2.0}},
            ItemKey("mixture/4", 44100, "song@0+30"): {"bass": {"leakage_db": -12.0412}},
        },
        "cd34": {ItemKey("SFI", 8000, "song@0+30"): {"bass": {"leakage_db": -200.0}}},
    }
    path = tmp_path / "new" / "results.json"
    save_scores(scores, path)
    assert load_scores(path) == scores
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3 + 2
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_no_store_is_no_scores(tmp_path: Path) -> None:
    assert load_scores(tmp_path / "results.json") == {}


# --- the whole run, on two short excerpts


def write_song(folder: Path, *, silent: str) -> None:
    folder.mkdir(parents=True)
    times = np.arange(48000) / 48000
    for index, stem in enumerate(("vocals", "drums", "bass", "other")):
        level = 0.0 if stem == silent else 0.1
        wave = level * np.sin(2 * np.pi * 300 * (index + 1) * times)
        path = folder / f"{stem}.opus"
        soundfile.write(path, np.stack([wave, wave], axis=1), 48000, format="OGG", subtype="OPUS")


SHORT = Manifest(
    sample_rate=48000,
    stems=("vocals", "drums", "bass", "other"),
    silent_below_db=-60.0,
    groups={"real": "Two tones.", "rendered": "Other tones."},
    items=(Item("real", "a", 0.25, 0.5), Item("rendered", "b", 0.0, 0.5)),
)


@pytest.fixture
def music(tmp_path: Path) -> Path:
    write_song(tmp_path / "music" / "a", silent="vocals")
    write_song(tmp_path / "music" / "b", silent="none")
    return tmp_path / "music"


def test_references_are_cut_and_resampled_and_add_up(music: Path) -> None:
    full, stems_full = read_item(music, SHORT.items[0], SHORT, sample_rate=48000)
    mixture, stems = read_item(music, SHORT.items[0], SHORT, sample_rate=8000)
    assert full.shape == (2, 24000)
    assert mixture.shape == (2, 4000)
    on_disk, _ = soundfile.read(music / "a" / "drums.opus", start=12000, frames=24000)
    np.testing.assert_allclose(stems_full["drums"], on_disk.T, atol=1e-6)
    np.testing.assert_array_equal(full, sum(stems_full.values()))
    np.testing.assert_allclose(mixture, sum(stems.values()), atol=1e-6)
    # All of it is far below 4 kHz: resampling keeps the energy, up to Opus noise and the ends.
    assert np.square(mixture).mean() == pytest.approx(np.square(full).mean(), rel=0.01)


def test_another_length_than_the_manifest_is_refused(music: Path) -> None:
    with pytest.raises(SystemExit, match="expected 96000 frames from frame 0"):
        read_item(music, Item("real", "a", 0.0, 2.0), SHORT, sample_rate=8000)


def test_run_fills_the_store_and_a_second_run_computes_only_what_is_missing(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    model, out = tmp_path / "model.safetensors", tmp_path / "page.md"
    save_model(SFIConvTasNet(small_config("mixture-consistent")), model)

    def run(*rates: int) -> None:
        separation_scores.run(
            music=music,
            model=str(model),
            sample_rates=rates,
            out=out,
            device="cpu",
            manifest=SHORT,
        )

    run(8000)
    (scores,) = load_scores(out.with_suffix(".json")).values()
    assert set(scores) == {
        ItemKey(method, 8000, key) for method in METHODS for key in ("a@0.25+0.5", "b@0+0.5")
    }
    # Three equally loud tones of four, and all four: what the mixture scores is known.
    of_mixture = scores[ItemKey("mixture/4", 8000, "a@0.25+0.5")]
    assert of_mixture["vocals"] == {"leakage_db": pytest.approx(-20 * math.log10(4), abs=1e-3)}
    assert of_mixture["drums"]["si_sdr"] == pytest.approx(-10 * math.log10(2), abs=0.1)
    assert of_mixture["drums"]["improvement"] == 0.0
    of_mixture = scores[ItemKey("mixture/4", 8000, "b@0+0.5")]
    assert of_mixture["bass"]["si_sdr"] == pytest.approx(-10 * math.log10(3), abs=0.1)
    # Other weights and another path give other stems.
    bass = {m: scores[ItemKey(m, 8000, "b@0+0.5")]["bass"]["si_sdr"] for m in METHODS}
    assert len(set(bass.values())) == len(METHODS)
    page = out.read_text(encoding="utf-8")
    assert "model.safetensors" in page
    assert str(tmp_path) not in page

    read_rates = []

    def read_noted(*args: object, sample_rate: int) -> object:
        read_rates.append(sample_rate)
        return read_item(*args, sample_rate=sample_rate)  # type: ignore[arg-type]

    monkeypatch.setattr(separation_scores, "read_item", read_noted)
    run(8000, 11025)
    assert read_rates == [11025, 11025]
    (more,) = load_scores(out.with_suffix(".json")).values()
    assert len(more) == 2 * len(scores)
    assert scores.items() <= more.items()
    run(8000, 11025)
    assert read_rates == [11025, 11025]


# --- the page, from invented numbers


STEMS = ("vocals", "bass")
ITEMS = ("x", "y")
# Improvement of vocals in x and y; bass is silent in y.
INVENTED = {
    "SFI": (5.0, 8.0),
    "resample": (4.0, 8.5),
    "untrained": (-1.0, 0.0),
    "mixture/4": (0.0, 0.0),
}


def invented_scores(rates: tuple[int, ...] = (8000, 16000)) -> Scores:
    scores: Scores = {}
    for rate in rates:
        for method, (first, second) in INVENTED.items():
            scores[ItemKey(method, rate, "x")] = {
                "vocals": {"si_sdr": first - 6.0, "improvement": first},
                "bass": {"si_sdr": first - 9.0, "improvement": first},
            }
            scores[ItemKey(method, rate, "y")] = {
                "vocals": {"si_sdr": second - 4.0, "improvement": second},
                "bass": {"leakage_db": -20.0 - second},
            }
    return scores


def page_of(scores: Scores) -> str:
    return make_page(
        scores,
        groups={"rendered": ("Invented songs.", ITEMS)},
        stems=STEMS,
        model="default",
        digest="0123456789abcdef",
        silent_below_db=-60.0,
    )


@pytest.mark.parametrize(
    ("stem", "kind", "expected"),
    [
        ("vocals", "si_sdr", [-1.0, 4.0]),
        ("bass", "si_sdr", [-4.0]),
        ("bass", "leakage_db", [-28.0]),
    ],
)
def test_values_are_collected_over_items_that_have_them(
    stem: str, kind: str, expected: list[float]
) -> None:
    values = values_of(invented_scores(), ITEMS, method="SFI", rate=8000, stem=stem, kind=kind)
    assert values == expected


def test_paired_differences_go_item_by_item() -> None:
    differences = paired_differences(invented_scores(), ITEMS, rate=8000, stem="vocals")
    assert differences == [1.0, -0.5]


def test_where_training_does_not_help_is_found() -> None:
    scores = invented_scores()
    assert not_beaten(scores, ITEMS, stems=STEMS, rates=[8000, 16000]) == []
    scores[ItemKey("untrained", 16000, "x")]["bass"]["improvement"] = 5.0  # a tie is no win
    assert not_beaten(scores, ITEMS, stems=STEMS, rates=[8000]) == []
    assert not_beaten(scores, ITEMS, stems=STEMS, rates=[8000, 16000]) == [
        "bass at 16000 Hz (SFI +5.00, untrained +5.00)"
    ]


def test_page_holds_means_counts_and_claims() -> None:
    lines = page_of(invented_scores()).splitlines()
    assert "| rate | row | vocals (2) | bass (1) |" in lines
    assert "| 8000 Hz | SFI | +6.50 | +5.00 |" in lines
    assert "| 16000 Hz | resample | +6.25 | +4.00 |" in lines
    assert "| 8000 Hz | untrained | -0.50 | -1.00 |" in lines
    assert "| 8000 Hz | mixture/4 | +0.00 | +0.00 |" in lines
    assert "| 8000 Hz | SFI | +1.50 | -4.00 |" in lines  # SI-SDR
    assert "| rate | row | vocals (0) | bass (1) |" in lines
    assert "| 8000 Hz | SFI | - | -28.00 |" in lines  # leakage
    assert "| vocals | +0.25 | -0.50 to +1.00 | 1 of 2 |" in lines
    assert "| bass | +1.00 | +1.00 to +1.00 | 1 of 1 |" in lines
    assert any(line.endswith("at every rate: **yes**.") for line in lines)
    assert any("`0123456789ab`" in line for line in lines)


def test_page_rounds_to_a_plain_zero() -> None:
    scores = invented_scores()
    scores[ItemKey("untrained", 8000, "x")]["bass"]["improvement"] = -0.004
    assert "| 8000 Hz | untrained | -0.50 | +0.00 |" in page_of(scores)


def test_page_names_the_exceptions() -> None:
    scores = invented_scores()
    scores[ItemKey("SFI", 8000, "x")]["bass"]["improvement"] = -0.5
    claims = [line for line in page_of(scores).splitlines() if "every rate:" in line]
    assert claims == [
        "The trained model (SFI) beats both rows without training on every stem at every rate: "
        "**no**, not on bass at 8000 Hz (SFI -0.50, mixture/4 +0.00)."
    ]


def test_page_leaves_out_rates_that_are_not_complete() -> None:
    scores = invented_scores()
    del scores[ItemKey("resample", 16000, "y")]
    page = page_of(scores)
    assert "16000 Hz" not in page
    assert "| 8000 Hz | SFI | +6.50 | +5.00 |" in page


def test_page_without_silent_stems_has_no_leakage_table() -> None:
    scores = {key: stems for key, stems in invented_scores().items() if key.item == "x"}
    page = make_page(
        scores,
        groups={"real": ("One song.", ["x"])},
        stems=STEMS,
        model="default",
        digest="0123456789abcdef",
        silent_below_db=-60.0,
    )
    assert "Leakage" not in page
    assert "## Real" in page
