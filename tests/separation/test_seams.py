"""Windows against whole files, on music."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch

from sfisep_core.audio.chunks import even_segment, plan_chunks
from sfisep_core.audio.resample import resample
from sfisep_core.data.demo_corpus import render_track
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.registry import build_model
from sfisep_core.separation.overlap_add import FADE_SECONDS
from sfisep_core.separation.separator import Separator
from sfisep_core.separation.settings import SeparationSettings
from tests.separation.divider import Samples, decibels

STEMS = ("vocals", "drums", "bass", "other")


@pytest.fixture(scope="module")
def composed() -> Samples:
    """Twenty-four seconds of a composed song, shape (2, time), at 48 kHz."""
    stems = render_track(seed=7, track=0, seconds=24.0, sample_rate=48000)
    return sum(stem.astype(np.float32) for stem in stems.values()) / 2**15


@pytest.fixture(scope="module")
def recorded(shared_dir: Path) -> Samples:
    """As much of a real song."""
    folder = shared_dir / "music/real/train/francium"
    if not folder.is_dir():
        pytest.skip("no music beside the checkout")
    parts = [
        soundfile.read(folder / f"{name}.opus", start=48000 * 40, frames=48000 * 24)[0]
        for name in STEMS
    ]
    return np.ascontiguousarray(sum(parts).T.astype(np.float32))


def largest_step(stems: Samples, where: npt.NDArray[np.bool_]) -> float:
    return float(np.abs(np.diff(stems, axis=-1))[..., where].max())


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "song"), [(8000, "composed"), (44100, "recorded")])
def test_default_model_gives_the_same_in_windows(
    rate: int, song: str, request: pytest.FixtureRequest
) -> None:
    music = request.getfixturevalue(song)
    mixture = resample(music[:, : 10 * 48000], orig_rate=48000, target_rate=rate)
    whole = (
        Separator("default", SeparationSettings(segment=0), device="cpu")
        .separate((mixture, rate))
        .stems
    )
    parts = (
        Separator("default", SeparationSettings(segment=3), device="cpu")
        .separate((mixture, rate))
        .stems
    )
    for name in STEMS:
        assert decibels(parts[name] - whole[name], whole[name]) < -60


def parts_of(model: SeparationModel) -> list[SeparationModel]:
    """The models that have windows of their own."""
    parts = [part.model for part in (*model.in_stages(), *model.in_members())]
    return [one for part in parts for one in parts_of(part)] or [model]


def seams_of(
    model: SeparationModel, frames: int, *, rate: int, segment: int
) -> list[tuple[int, int]]:
    """Where windows of a model are cross-faded."""
    rule = model.segments
    context = round(rule.context_seconds * rate)
    fade = round((FADE_SECONDS if rule.chunk_invariant else 1.0) * rate)
    chunks = plan_chunks(
        frames,
        segment=even_segment(frames, segment=segment * rate, context=context),
        context=context,
        fade=fade,
        alignment=model.chunk_alignment(rate),
    )
    return [(chunk.keep_start, chunk.keep_start + fade) for chunk in chunks[1:]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "song"), [("default", "recorded"), ("global", "recorded"), ("global", "composed")]
)
def test_seams_hold_no_larger_steps_than_music(
    kind: str, song: str, request: pytest.FixtureRequest
) -> None:
    music = request.getfixturevalue(song)
    rate = 16000
    mixture = resample(music, orig_rate=48000, target_rate=rate)
    model: Any = "default"
    if kind == "global":  # a network whose windows do not agree
        torch.manual_seed(0)
        tcn = {"bottleneck_channels": 16, "hidden_channels": 16, "num_layers": 3, "num_stacks": 2}
        model = build_model("sfi-conv-tasnet", {"num_filters": 32, "tcn": tcn, "mask": "free"})
    separator = Separator(model, SeparationSettings(segment=3), device="cpu")
    stems = np.stack(list(separator.separate((mixture, rate)).stems.values()))
    seams = np.zeros(mixture.shape[-1] - 1, dtype=bool)
    for part in parts_of(separator.model):
        places = seams_of(part, mixture.shape[-1], rate=rate, segment=3)
        assert places
        for start, stop in places:
            seams[start - 2 : stop + 2] = True
    assert largest_step(stems, seams) <= largest_step(stems, ~seams)
