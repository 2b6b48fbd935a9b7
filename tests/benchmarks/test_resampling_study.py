import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch

from sfisep_core.evaluation.study import ALL_SOURCES, ScoreKey, Study
from sfisep_core.evaluation.summary import compare
from sfisep_core.evaluation.tables import summarise_scores
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.identity import identify_model
from sfisep_core.pretrained.model_files import load_model, save_model
from tests.benchmarks import spleeter_study
from tests.benchmarks.resampling_overview import headline, write_pages
from tests.benchmarks.resampling_page import Group, make_details
from tests.benchmarks.resampling_study import MATERIALS, Material, run, untrained_model
from tests.evaluation.conftest import model, stems_of

pytestmark = pytest.mark.slow

__all__ = ["model"]  # a fixture

RATES = [6000, 8000]


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """Music laid out as the real one is, of noise."""
    for track in range(3):
        folder = tmp_path / f"music/rendered/valid/song_w0{track}"
        folder.mkdir(parents=True)
        for name, stem in zip(("vocals", "drums", "bass", "other"), stems_of(track), strict=True):
            soundfile.write(folder / f"{name}.wav", stem.T, 8000, subtype="PCM_16")
    return tmp_path / "music"


def test_study_writes_page_figure_and_numbers_and_is_resumed(
    music: Path, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("matplotlib")
    material = Material(
        "rendered noise",
        "Noise.",
        "rendered/valid/*",
        ("song_w00:0-1",),
        ("native", "soxr", "noisy-kernel"),
    )
    page = tmp_path / "results.md"
    (tmp_path / "work").mkdir()

    def study() -> tuple[str, ...]:
        groups = run(
            music=music,
            work=tmp_path / "work",
            model=str(model),
            sample_rates=RATES,
            page=page,
            jobs=1,
            materials=[material],
        )
        write_pages(groups, page, title="Results", program="resampling_study")
        names = (
            *("results.md", "results-details.md", "results.csv"),
            "results-rendered-noise.svg",
        )
        text, details, numbers, figure = ((tmp_path / name).read_text() for name in names)
        return text, details, numbers, figure

    with caplog.at_level("INFO"):
        first = study()
        assert "s left" in caplog.text
        caplog.clear()
        assert study() == first
        assert "s left" not in caplog.text
    text, details, numbers, figure = first
    assert "(results-rendered-noise.svg)" in text
    assert "| rendered noise | 8 | " in text
    assert "(results-details.md)" in text
    assert "| 8 | native |" in details
    assert "vocals (3) | drums (3) | bass (2)" in details
    assert figure.lstrip().startswith("<?xml")
    rows = list(csv.DictReader(io.StringIO(numbers)))
    systems = {row["system"] for row in rows if row["sample_rate"] == "8000"}
    assert systems == {*("native", "soxr", "noisy-kernel", "mixture", "untrained")}


def make_study(scores: dict[ScoreKey, dict[str, float]]) -> Study:
    return Study(
        model="sfi-conv-tasnet-small",
        model_sha256="0123456789abcdef",
        native_rate=32000,
        data="Noise.",
        systems=["native", "resample", "mixture", "untrained"],
        sample_rates=[8000],
        sources=["drums"],
        tracks=["a", "b"],
        scores=scores,
        summaries=summarise_scores(scores),
        differences={
            (key, "resample"): compare(values, scores[other])
            for key, values in scores.items()
            if key.system == "native" and (other := key._replace(system="resample")) in scores
        },
        examples=[],
    )


def page_of(study: Study) -> str:
    group = Group("rendered", study, "a.svg")
    return make_details([group], title="Results", program="resampling_study")


@pytest.mark.parametrize(("native", "beaten"), [(6.0, False), (3.9, True)])
def test_page_shows_improvements_differences_and_defeats(native: float, beaten: bool) -> None:
    values = {
        "native": {"a": native, "b": native + 2},
        "resample": {"a": native - 0.5, "b": native + 3},
        "mixture": {"a": -1.0, "b": 1.0},
        "untrained": {"a": 2.0, "b": 4.0},
    }
    scores = {
        ScoreKey(8000, system, source, "si_sdr"): of_system
        for system, of_system in values.items()
        for source in ("drums", ALL_SOURCES)
    }
    text = page_of(make_study(scores))
    mean = native + 1
    assert f"| 8 | native | {mean:+.2f} | {mean:+.2f} |" in text
    assert "| 8 | untrained | +3.00 | +3.00 |" in text
    assert "| 8 | -0.250 [-1.000, +0.500], 1/2, p 1 |" in text
    defeats = "drums at 8 kHz (untrained)" if beaten else "none"
    assert f"is not 2 dB above the mixture and the untrained network: {defeats}." in text
    assert "| 8 | - |" in text  # no leakage where no stem is silent
    assert "differs from" not in text  # without scores at the native rate
    assert "nan" not in text


def test_untrained_network_is_the_same_every_time_and_mixture_consistent(
    model: Path, tmp_path: Path
) -> None:
    loaded = load_model(model)
    path = tmp_path / "trained.safetensors"
    settings = loaded.config_dict() | {"gain_rule": "least-squares"}
    with torch.random.fork_rng(devices=[]):
        save_model(build_model(loaded.family, settings), path)
    found = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        found.append(untrained_model(identify_model(str(path)), tmp_path / folder))
    assert found[0].sha256 == found[1].sha256
    fresh = load_model(Path(found[0].name))
    assert fresh.config_dict() == loaded.config_dict()
    weights, own = fresh.state_dict(), load_model(path).state_dict()
    assert not torch.equal(weights["masker.conv_out.weight"], own["masker.conv_out.weight"])


def test_materials_are_all_music_that_training_leaves_out(shared_dir: Path) -> None:
    found = [len(list((shared_dir / "music").glob(m.tracks))) for m in MATERIALS]
    assert found == [20, 11, 1]


def test_page_compares_the_rates_in_their_common_band_and_shows_leakage() -> None:
    scores = {
        ScoreKey(rate, system, source, "si_sdr_common_band"): {"a": value, "b": value + 1}
        for system, values in {"native": (3.0, 5.5, 5.0), "mixture": (-1.0, -0.5, -1.0)}.items()
        for rate, value in zip((8000, 16000, 32000), values, strict=True)
        for source in ("drums", ALL_SOURCES)
    }
    scores[ScoreKey(8000, "native", "drums", "leakage_db")] = {"c": -30.0, "d": -20.0, "e": -28.0}
    study = make_study(scores)
    study = replace(study, sample_rates=[8000, 16000, 32000])
    text = page_of(study)
    assert "from that at 32 kHz by at most -2.00 dB (at 8 kHz)" in text
    table = text.partition("### SI-SDR improvement up to 4 kHz")[2].partition("###")[0]
    assert "| 8 | +4.00 | +4.00 |\n| 16 | +6.00 | +6.00 |\n| 32 | +6.00 | +6.00 |" in table
    assert "| 8 | -28.00, -20.00 (3) |" in text


def test_page_does_not_speak_of_an_untrained_network_that_was_not_scored() -> None:
    scores = {
        ScoreKey(8000, system, "drums", "si_sdr"): {"a": value}
        for system, value in {"native": 1.0, "mixture": -2.0}.items()
    }
    study = replace(make_study(scores), systems=["native", "mixture"])
    text = page_of(study)
    assert "untrained" not in text
    assert "without training" not in text
    assert "is not 2 dB above the mixture: none." in text


def test_study_of_spleeter_takes_the_middle_of_windows(shared_dir: Path) -> None:
    rendered, real = spleeter_study.materials(shared_dir / "music")
    assert len(rendered.exclude) == 2 * 11
    assert {"fd2_doom_w00:0-7.5", "fd2_doom_w00:22.5-99999"} < set(rendered.exclude)
    assert real.exclude == ("francium:0-60", "francium:80-99999")
    assert rendered.methods == real.methods == spleeter_study.METHODS


def test_headline_spans_all_music() -> None:
    spans = [
        {"resample": (-0.02, 0.03), "direct": (0.1, 10.84)},
        {"resample": (-0.5, 0.01), "direct": (0.2, 4.0)},
    ]
    text = headline("small", spans)
    assert "differs by -0.50 to +0.03 dB of SI-SDR" in text
    assert text.endswith("ignored (`direct`), up to 10.8 dB are lost.")
    assert "differs by +0.00 to +1.00 dB" in headline("small", [{"resample": (0.0, 1.0)}])
