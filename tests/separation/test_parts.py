"""Cascades and ensembles on whole signals: part by part, each with windows of its own."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sfisep_core.audio import stores as stores_module
from sfisep_core.audio.stores import DiskStore, MemoryStore, Stores, read_all
from sfisep_core.models.cascade import Cascade, CascadeConfig, StageConfig
from sfisep_core.models.ensemble import Ensemble, EnsembleConfig, MemberConfig
from sfisep_core.separation.parts import separate_in_parts, stored_sources
from sfisep_core.separation.settings import DEFAULT_SETTINGS
from tests.separation.divider import Divider, decibels, noise, separated

RATE = 8000
ALL = ("vocals", "drums", "bass", "other")


def cascade(last: tuple[str, ...] = ("drums", "bass", "other")) -> tuple[Cascade, list[Divider]]:
    """Take 40 % as the voice, then 30, 20 and 10 % of the rest as the sources of the last stage."""
    voice = Divider(shares=(0.4, 0.6), context_seconds=3, alignment=500)
    voice.sources = ("vocals", "accompaniment")
    rest = Divider(shares=(0.3, 0.2, 0.1)[: len(last)], context_seconds=1)
    rest.sources = last
    stages = (StageConfig(keep=("vocals",)), StageConfig(keep=last))
    config = CascadeConfig(sources=("vocals", *last), native_rate=RATE, stages=stages)
    return Cascade(config, [voice, rest]).eval(), [voice, rest]


@pytest.mark.parametrize("frames", [0, 1, 700, 20 * RATE])
def test_what_stages_leave_is_separated_further(frames: int) -> None:
    model, _ = cascade()
    mixture = noise(2, frames)
    stems = separated(model, mixture.copy(), sample_rate=RATE)
    # The residual source also gets what the last stage leaves: 1 - 0.3 - 0.2 of 60 %.
    expected = np.array([0.4, 0.18, 0.12, 0.3], dtype=np.float32)[:, None, None] * mixture
    np.testing.assert_allclose(stems, expected, atol=1e-6)


def test_without_a_residual_source_the_rest_is_distributed() -> None:
    model, _ = cascade(("drums", "bass"))
    mixture = noise(2, 3 * RATE)
    stems = separated(model, mixture, sample_rate=RATE)
    np.testing.assert_allclose(stems.sum(axis=0), mixture, atol=1e-5)
    np.testing.assert_allclose(stems[0], 0.4 * mixture, atol=1e-6)
    # By energy, 9 to 4: of the 30 % that are left drums get 9 / 13.
    np.testing.assert_allclose(stems[1], (0.18 + 0.3 * 9 / 13) * mixture, atol=1e-4)


def test_agrees_with_all_stages_in_one_window() -> None:
    for last in (ALL[1:], ("drums", "bass")):
        model, _ = cascade(last)
        mixture = noise(2, 5 * RATE)
        whole = separated(model, mixture, sample_rate=RATE, segment=100)
        parts = separated(model, mixture, sample_rate=RATE, segment=2)
        assert decibels(parts - whole, whole) < -110


def test_every_stage_has_windows_of_its_own() -> None:
    model, stages = cascade()
    separated(model, noise(2, 30 * RATE), sample_rate=RATE)
    for stage, context in zip(stages, (3, 1), strict=True):
        lengths = [heard.shape[-1] for heard in stage.heard]
        assert max(lengths) <= (2 + 2 * context) * RATE
        # Only its own context is computed twice, not that of all stages.
        computed = sum(lengths) / RATE
        assert computed < 30 * (2 + 2 * context) / 2 + 2 + 2 * context


def test_progress_is_that_of_all_stages() -> None:
    model, _ = cascade()
    told: list[tuple[float, float]] = []
    separated(
        model,
        noise(1, 9 * RATE),
        sample_rate=RATE,
        progress=lambda done, total: told.append((done, total)),
    )
    done = [seconds for seconds, _ in told]
    assert done == sorted(done)
    assert {total for _, total in told} == {9.0}
    assert 4.5 in done
    assert done[-1] == 9.0


@pytest.mark.parametrize("kind", ["cascade", "ensemble"])
def test_large_signals_are_on_disk(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores_module, "_LARGEST_IN_MEMORY", 1000)
    model = (cascade() if kind == "cascade" else ensemble())[0]
    mixture = noise(2, 9 * RATE)
    expected = separated(model, mixture, sample_rate=RATE)
    made: list[tuple[int, ...]] = []
    with Stores(tmp_path) as stores:
        make = stores.make

        def note(leading: tuple[int, ...], frames: int) -> object:
            made.append(leading)
            return make(leading, frames)

        monkeypatch.setattr(stores, "make", note)
        stems = separate_in_parts(
            model,
            MemoryStore(mixture),
            sample_rate=RATE,
            stores=stores,
            settings=DEFAULT_SETTINGS,
            progress=None,
        )
        assert isinstance(stems, DiskStore)
        assert stores._on_disk == [stems]  # all others are dropped
        np.testing.assert_array_equal(read_all(stems), expected)
    # At most the result, a residual and the stems of one stage or member at a time.
    if kind == "cascade":
        assert made == [(4, 2), (2,), (2, 2), (3, 2)]
        assert stored_sources(model) == (4, 3, 1)
    else:
        assert made == [(3, 2), (3, 2), (4, 2)]
        assert stored_sources(model) == (3, 4)
    assert stored_sources(Divider()) == (2,)


def ensemble(sources: tuple[str, ...] = ALL[1:]) -> tuple[Ensemble, list[Divider]]:
    """The mean, 1 to 3, of two models; the second has one source more where it can go to a rest."""
    first = Divider(shares=(0.5, 0.2, 0.1)[: len(sources)], context_seconds=3, alignment=500)
    first.sources = sources
    more = ("vocals",) if "other" in sources else ()
    second = Divider(shares=(0.1, 0.4, 0.2, 0.2)[: len(more + sources)], context_seconds=1)
    second.sources = (*more, *sources)
    config = EnsembleConfig(
        sources=sources,
        native_rate=RATE,
        members=(MemberConfig(weight=1.0), MemberConfig(weight=3.0)),
    )
    return Ensemble(config, [first, second]).eval(), [first, second]


@pytest.mark.parametrize("frames", [0, 1, 700, 20 * RATE])
def test_stems_are_means_over_members(frames: int) -> None:
    model, _ = ensemble()
    mixture = noise(2, frames)
    stems = separated(model, mixture.copy(), sample_rate=RATE)
    # Of the first 50, 20 and 30 % with the rest, of the second 40, 20 and 40 %.
    expected = np.array([0.425, 0.2, 0.375], dtype=np.float32)[:, None, None] * mixture
    np.testing.assert_allclose(stems, expected, atol=1e-6)


@torch.no_grad()
def test_members_agree_with_all_in_one_window() -> None:
    for sources in (ALL[1:], ("drums", "bass")):
        model, _ = ensemble(sources)
        mixture = noise(2, 5 * RATE)
        whole = model(torch.from_numpy(mixture)[None], sample_rate=RATE)[0].numpy()
        parts = separated(model, mixture, sample_rate=RATE, segment=2)
        assert decibels(parts - whole, whole) < -110
        np.testing.assert_allclose(parts.sum(axis=0), mixture, atol=1e-5)


def test_every_member_of_a_stage_has_windows_of_its_own() -> None:
    second, members = ensemble()
    first = Divider(shares=(0.4, 0.6), context_seconds=0)
    first.sources = ("vocals", "accompaniment")
    stages = (StageConfig(keep=("vocals",)), StageConfig(keep=ALL[1:]))
    config = CascadeConfig(sources=ALL, native_rate=RATE, stages=stages)
    model = Cascade(config, [first, second]).eval()
    told: list[float] = []
    mixture = noise(2, 30 * RATE)
    stems = separated(
        model, mixture, sample_rate=RATE, progress=lambda done, total: told.append(done / total)
    )
    expected = np.array([0.4, 0.255, 0.12, 0.225], dtype=np.float32)[:, None, None] * mixture
    np.testing.assert_allclose(stems, expected, atol=1e-6)
    for member, context in zip(members, (3, 1), strict=True):
        assert max(heard.shape[-1] for heard in member.heard) <= (2 + 2 * context) * RATE
    assert told == sorted(told)
    assert {0.5, 0.75, 1.0} <= {round(part, 6) for part in told}
    # The stems, those of the second stage, those of its larger member, and a residual.
    assert stored_sources(model) == (4, 3, 4, 1)
