"""The mean over shifts and models, with models whose answers are known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sfisep_core.audio import stores as stores_module
from sfisep_core.audio.files import read_audio, write_audio
from sfisep_core.audio.stores import MemoryStore, Stores, read_all
from sfisep_core.errors import ConfigError
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.address import folder_name, member_names
from sfisep_core.pretrained.model_files import save_model
from sfisep_core.separation.averaging import shift_delays
from sfisep_core.separation.methods import METHODS, separate_signal
from sfisep_core.separation.separator import Separator
from sfisep_core.separation.settings import SeparationSettings
from tests.separation.divider import Divider, Samples, noise

RATE = 8000
WHOLE = SeparationSettings(segment=0)


class Counter(Divider):
    """Stem 0 is the mixture times the time since the model's first sample, in samples."""

    def __init__(self) -> None:
        super().__init__(gain_rule="mixture-consistent", invariant=False)

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        del sample_rate
        first = mixture * torch.arange(mixture.shape[-1])
        return torch.stack([first, mixture - first], dim=1)


def separated(models: Any, audio: Samples, **settings: Any) -> Samples:
    return read_all(
        separate_signal(
            models,
            MemoryStore(audio),
            sample_rate=RATE,
            settings=SeparationSettings(segment=0, **settings),
        )
    )


def test_delays_are_spread_over_half_a_second() -> None:
    assert shift_delays(1, RATE) == [0]
    assert shift_delays(4, RATE) == [0, 1000, 2000, 3000]


def test_mean_over_shifts_is_that_of_the_delays() -> None:
    audio = noise(2, 5000)
    times = np.arange(5000) + np.mean(shift_delays(4, RATE))
    stems = separated(Counter(), audio, shifts=4)
    np.testing.assert_allclose(stems[0], audio * times, rtol=1e-5)
    np.testing.assert_allclose(stems.sum(axis=0), audio, atol=0.01)  # of stems 6500 times it


@pytest.mark.parametrize("method", METHODS)
def test_shifts_leave_alone_what_does_not_depend_on_them(method: str) -> None:
    model = Divider()
    audio = noise(1, 3001)
    plain = separated(model, audio, method=method)
    np.testing.assert_allclose(separated(model, audio, method=method, shifts=3), plain, atol=1e-4)


def test_mean_over_models_is_by_name() -> None:
    first, second = Divider(shares=(0.75, 0.25)), Divider(shares=(0.5, 0.5))
    second.sources = tuple(reversed(first.sources))
    first.gain_rule = second.gain_rule = "mixture-consistent"
    audio = noise(2, 2000)
    stems = separated([first, second], audio)
    np.testing.assert_allclose(stems[0], 0.625 * audio, atol=1e-6)
    np.testing.assert_allclose(stems.sum(axis=0), audio, atol=1e-6)


def test_stores_of_single_runs_are_freed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stores_module, "_LARGEST_IN_MEMORY", 0)
    audio = noise(1, 3000)
    with Stores(tmp_path) as stores:
        result = separate_signal(
            Divider(),
            MemoryStore(audio),
            sample_rate=RATE,
            settings=SeparationSettings(shifts=3),
            stores=stores,
        )
        assert stores._on_disk == [result]
        np.testing.assert_allclose(read_all(result)[0], 0.75 * audio, atol=1e-6)


def test_progress_goes_from_none_to_all() -> None:
    seen: list[tuple[float, float]] = []
    separate_signal(
        [Divider(), Divider()],
        MemoryStore(noise(1, 4 * RATE)),
        sample_rate=RATE,
        settings=SeparationSettings(segment=1.0, shifts=2),
        progress=lambda done, total: seen.append((done, total)),
    )
    done = [place for place, _ in seen]
    assert done == sorted(done)
    assert {total for _, total in seen} == {4.0}
    assert done[-1] == pytest.approx(4.0)


def test_names_of_several_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert member_names("scnet+default") == ("scnet", "default")
    assert folder_name("scnet+runs/a/best.safetensors") == "scnet+a-best"
    assert member_names("https://host/a+b") == ("https://host/a+b",)
    Path("a+b.safetensors").touch()
    assert member_names("a+b.safetensors") == ("a+b.safetensors",)


def test_files_of_two_models(tmp_path: Path) -> None:
    settings = {
        "sources": ["vocals", "other"],
        "native_rate": RATE,
        "num_filters": 8,
        "trunk": "shared",
        "tcn": {"bottleneck_channels": 8, "hidden_channels": 8, "num_layers": 1, "num_stacks": 1},
    }
    with torch.random.fork_rng(devices=[]):
        for number in range(2):
            torch.manual_seed(number)
            sources = ["vocals", "other"] if number == 0 else ["other", "vocals"]
            model = build_model("sfi-conv-tasnet", settings | {"sources": sources})
            save_model(model, tmp_path / f"{number}.safetensors")
    names = [str(tmp_path / f"{number}.safetensors") for number in range(2)]
    write_audio(tmp_path / "song.wav", 0.1 * noise(2, 4000), sample_rate=RATE, encoding="float32")
    one, two, both = (
        Separator(name, device="cpu").separate(tmp_path / "song.wav").stems
        for name in (*names, "+".join(names))
    )
    for stem in ("vocals", "other"):
        np.testing.assert_allclose(both[stem], (one[stem] + two[stem]) / 2, atol=1e-6)
    result = Separator("+".join(names), device="cpu").separate_file(
        tmp_path / "song.wav", out_dir=tmp_path / "out"
    )
    written, _ = read_audio(result.stems["vocals"])
    np.testing.assert_allclose(written, both["vocals"], atol=2**-22)


def test_models_of_different_stems_are_refused() -> None:
    with pytest.raises(ConfigError, match="models default and spleeter-vocals: expected the same"):
        Separator("default+spleeter-vocals", device="cpu")


def test_streams_take_one_run() -> None:
    separator = Separator(Divider(), SeparationSettings(shifts=2), device="cpu")
    with pytest.raises(ConfigError, match="stream: expected one model without shifts"):
        next(separator.stream([noise(1, 100)], sample_rate=RATE))


def test_shifts_out_of_range() -> None:
    with pytest.raises(ConfigError, match="shifts: expected 1 or more, got 0"):
        SeparationSettings(shifts=0)
