import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from sfisep_core.errors import DatasetError
from sfisep_core.models.contract import SegmentRule, SeparationModel
from sfisep_core.training.validation import ValidationScores, validate

RATE = 4000
Stems = dict[str, npt.NDArray[np.float32]]


class Halves(SeparationModel):
    """Gives half of the mixture as both stems."""

    family = "halves"
    sources = ("vocals", "bass")
    native_rate = RATE
    gain_rule = "mixture-consistent"
    normalizes_level = False
    segments = SegmentRule(seconds=0, context_seconds=0, chunk_invariant=True)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))
        self.seen: list[tuple[int, tuple[int, ...]]] = []

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        self.seen.append((sample_rate, tuple(mixture.shape)))
        return torch.stack([self.weight * mixture] * 2, dim=1)


class Cleaner(Halves):
    """Takes 20 dB off every second sample in the vocals, which is where the bass is."""

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        stems = super().forward(mixture, sample_rate=sample_rate)
        stems[:, 0, :, 1::2] *= 0.1
        return stems


def track(
    *, vocals: float = 1.0, bass: float = 1.0, frames: int = RATE, channels: int = 1
) -> Stems:
    """Give stems that share no sample, so that they are orthogonal."""
    stems = {name: np.zeros((channels, frames), np.float32) for name in ("vocals", "bass")}
    stems["vocals"][:, ::2] = vocals
    stems["bass"][:, 1::2] = bass
    return stems


def dataset(*tracks: Stems, rate: int = RATE) -> Any:
    """Give what `validate` needs of a StemDataset."""

    def read_whole(track: Any, stem: str) -> npt.NDArray[np.float32]:
        audio: npt.NDArray[np.float32] = tracks[track.number][stem]
        return audio

    found = [
        SimpleNamespace(number=i, sample_rate=rate, frames=next(iter(stems.values())).shape[1])
        for i, stems in enumerate(tracks)
    ]
    stems = tuple(tracks[0])
    return SimpleNamespace(
        folder=Path("data"),
        tracks=found,
        stems=stems,
        read_whole=read_whole,
        mixed_with=lambda sources: (*sources, *(stem for stem in stems if stem not in sources)),
    )


def score(model: SeparationModel, data: Any, **settings: Any) -> ValidationScores:
    defaults = {"sample_rates": (RATE,), "seconds": 0.0, "max_tracks": 0}
    return validate(model.eval(), data, **{**defaults, **settings})


def test_scores_of_known_estimates() -> None:
    scores = score(Cleaner(), dataset(track(), track(bass=0.5)))
    # SI-SDR of the vocals: 20 dB better than the mixture's in both tracks. The bass is half of the
    # mixture, which is as far from it as the mixture is.
    assert scores.si_sdr == {RATE: {"vocals": pytest.approx(20.0), "bass": pytest.approx(0.0)}}
    # SNR: the vocals lack half of themselves and have 0.05 of the bass; the bass likewise, and has
    # half of the vocals.
    vocals = [-10 * math.log10(0.25 + (0.05 * bass) ** 2) for bass in (1.0, 0.5)]
    bass = [-10 * math.log10(0.25 + 0.25 / bass**2) for bass in (1.0, 0.5)]
    assert scores.snr[RATE]["vocals"] == pytest.approx(sum(vocals) / 2, abs=1e-3)
    assert scores.snr[RATE]["bass"] == pytest.approx(sum(bass) / 2, abs=1e-3)
    assert scores.counts == {RATE: {"vocals": 2, "bass": 2}}
    assert scores.mean == pytest.approx(10.0)


def test_stems_that_a_model_leaves_alone_are_in_its_mixture() -> None:
    louder = {**track(), "drums": 10 * track()["bass"]}
    alone, beside = score(Halves(), dataset(track())), score(Halves(), dataset(louder))
    assert beside.counts == {RATE: {"vocals": 1, "bass": 1}}
    assert beside.snr[RATE]["vocals"] < alone.snr[RATE]["vocals"] - 10


def test_source_counts_where_it_plays() -> None:
    # -40 dB of the mixture's energy is the limit.
    scores = score(Cleaner(), dataset(track(bass=0.0099), track(), track(bass=0.0)))
    assert scores.counts == {RATE: {"vocals": 3, "bass": 1}}
    assert scores.si_sdr[RATE]["bass"] == pytest.approx(0.0)
    alone = score(Cleaner(), dataset(track(bass=0.0)))
    assert alone.counts == {RATE: {"vocals": 1}}
    assert alone.mean == alone.si_sdr[RATE]["vocals"]


def test_silence_has_no_score() -> None:
    silent = track(vocals=0, bass=0)
    with pytest.raises(DatasetError, match=r"^data set data: .* found silence in all 2: "):
        score(Halves(), dataset(silent, silent))


@pytest.mark.parametrize(
    ("weight", "si_sdr", "snr"),
    [
        (0.0, -100.0, 0.0),  # silence for a source as loud as the other
        (math.nan, math.nan, math.nan),
    ],
)
def test_estimates_without_a_ratio(weight: float, si_sdr: float, snr: float) -> None:
    model = Halves()
    nn.init.constant_(model.weight, weight)
    scores = score(model, dataset(track()))
    assert scores.si_sdr[RATE]["bass"] == pytest.approx(si_sdr, nan_ok=True)
    assert scores.snr[RATE]["bass"] == pytest.approx(snr, nan_ok=True, abs=1e-3)
    assert scores.mean == pytest.approx(si_sdr, nan_ok=True)


def test_estimates_that_are_not_finite_with_least_squares() -> None:
    model = Halves()
    model.gain_rule = "least-squares"
    nn.init.constant_(model.weight, math.nan)
    assert math.isnan(score(model, dataset(track())).mean)


def test_perfect_estimates_are_bounded() -> None:
    # Alone, the vocals are the mixture: nothing to gain. Their estimate has half the level.
    scores = score(Halves(), dataset(track(bass=0)))
    assert scores.si_sdr == {RATE: {"vocals": 0.0}}
    model = Halves()
    nn.init.ones_(model.weight)
    assert score(model, dataset(track(bass=0))).snr == {RATE: {"vocals": 40.0}}


def test_middle_of_the_tracks() -> None:
    long = track(frames=10 * RATE)
    for stem in long.values():
        stem[:, : 4 * RATE] = stem[:, 6 * RATE :] = np.nan  # nobody may look there
    model = Cleaner()
    scores = score(model, dataset(long, track()), seconds=2.0)
    assert scores.si_sdr[RATE]["vocals"] == pytest.approx(20.0)
    # A shorter track is taken as a whole.
    assert model.seen == [(RATE, (1, 1, 2 * RATE)), (RATE, (1, 1, RATE))]


def test_first_tracks() -> None:
    model = Halves()
    scores = score(model, dataset(track(), track(), track(frames=8)), max_tracks=2)
    assert scores.counts == {RATE: {"vocals": 2, "bass": 2}}
    assert score(model, dataset(track(), track()), max_tracks=9).counts == scores.counts


def test_tracks_are_resampled_to_every_rate() -> None:
    time = np.arange(8000, dtype=np.float64) / 8000
    stems = {
        "vocals": np.sin(2 * np.pi * 440 * time)[None].astype(np.float32),
        # Half of its energy is above the band of the lowest rate.
        "bass": (np.sin(2 * np.pi * 300 * time) + np.sin(2 * np.pi * 3000 * time))[None],
    }
    model = Halves()
    scores = score(model, dataset(stems, rate=8000), sample_rates=(4000, 8000, 12000))
    assert [rate for rate, _ in model.seen] == [4000, 8000, 12000]
    assert [shape[-1] for _, shape in model.seen] == [4000, 8000, 12000]
    # |s|^2 / |x / 2 - s|^2, where x / 2 - s is half the difference of both: 4 |s|^2 / |x|^2.
    for rate, bass in ((4000, 1), (8000, 2), (12000, 2)):
        found = [scores.snr[rate][source] for source in ("vocals", "bass")]
        expected = [10 * math.log10(4 * energy / (1 + bass)) for energy in (1, bass)]
        assert found == pytest.approx(expected, abs=0.05)
        assert scores.si_sdr[rate] == {"vocals": 0.0, "bass": 0.0}


def test_long_tracks_are_run_in_chunks() -> None:
    model = Cleaner()
    model.segments = SegmentRule(seconds=1, context_seconds=1, chunk_invariant=True)
    whole = score(Cleaner(), dataset(track(frames=8 * RATE)))
    chunks = score(model, dataset(track(frames=8 * RATE)))
    assert len(model.seen) == 6
    assert {shape for _, shape in model.seen} == {(1, 1, 3 * RATE)}
    assert chunks.si_sdr[RATE] == pytest.approx(whole.si_sdr[RATE], abs=0.01)


def test_mono_stems_in_stereo_tracks_are_doubled() -> None:
    mixed = {**track(channels=2), "bass": track()["bass"]}
    model = Cleaner()
    assert score(model, dataset(mixed)) == score(Cleaner(), dataset(track(channels=2)))
    assert model.seen == [(RATE, (1, 2, RATE))]


def test_processes_share_the_tracks_and_get_the_same_scores() -> None:
    tracks = [track(vocals=1 + i, bass=0.5 * (i % 3), frames=RATE + i) for i in range(5)]
    expected = score(Cleaner(), dataset(*tracks), sample_rates=(RATE, 6000))
    parts: list[Tensor] = []
    lengths = []
    for rank in range(3):
        model = Cleaner()

        def keep(sums: Tensor) -> Tensor:
            parts.append(sums.clone())
            return sums

        score(model, dataset(*tracks), rank=rank, world_size=3, reduce=keep, sample_rates=(RATE,))
        lengths.append([shape[-1] - RATE for _, shape in model.seen])
    assert lengths == [[0, 3], [1, 4], [2]]
    parts.clear()
    for rank in range(3):
        settings: dict[str, Any] = {"world_size": 3, "sample_rates": (RATE, 6000)}
        score(Cleaner(), dataset(*tracks), rank=rank, reduce=keep, **settings)
    total = torch.stack(parts).sum(dim=0)
    assert total.dtype == torch.float64
    for rank in range(3):
        model = Cleaner()
        found = score(model, dataset(*tracks), rank=rank, reduce=lambda _: total, **settings)
        assert found == expected


def test_process_without_tracks() -> None:
    one = torch.tensor([[[3.0, 4.0, 2.0], [1.0, 1.0, 1.0]]], dtype=torch.float64)
    model = Halves()
    scores = score(model, dataset(track()), rank=1, world_size=2, reduce=lambda sums: sums + one)
    assert model.seen == []
    assert scores == ValidationScores(
        {RATE: {"vocals": 1.5, "bass": 1.0}},
        {RATE: {"vocals": 2.0, "bass": 1.0}},
        {RATE: {"vocals": 2, "bass": 1}},
    )


class Speakers(Cleaner):
    """Separates as its base does, but sources without names, in either order."""

    sources = ("s1", "s2")
    swapped = False

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        stems = super().forward(mixture, sample_rate=sample_rate)
        return stems.flip(1) if self.swapped else stems


@pytest.mark.parametrize("swapped", [False, True])
def test_order_of_sources_without_names_does_not_matter(swapped: bool) -> None:
    signs = np.random.default_rng(0).choice([-1.0, 1.0], RATE).astype(np.float32)
    named = {name: stem * signs for name, stem in track(bass=0.5).items()}
    unnamed = {"s1": named["vocals"], "s2": named["bass"]}
    model = Speakers()
    model.swapped = swapped
    scores = score(model, dataset(unnamed))
    expected = score(Cleaner(), dataset(named))
    assert scores.si_sdr == {RATE: {"s1": pytest.approx(20.0), "s2": pytest.approx(0.0)}}
    assert list(scores.snr[RATE].values()) == list(expected.snr[RATE].values())
