"""What a run does now and then: validation, examples to listen to, TensorBoard's files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sfisep_core.data.demo_corpus import generate_demo_corpus
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.training import milestones
from sfisep_core.training.checkpoint import load_checkpoint
from sfisep_core.training.loop import CHECKPOINT_NAME, train
from sfisep_core.training.validation import ValidationScores
from tests.training.test_loop import TINY, events, losses


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    generate_demo_corpus(
        folder / "demo", num_train=1, num_valid=2, num_test=0, seconds=2, sample_rate=8000, seed=0
    )
    return prepare_dataset(folder / "demo", folder / "prepared").folder


@pytest.fixture
def scripted_scores(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The scores of the validations to come."""
    scores: list[float] = []

    def validate(*_: object, **__: object) -> ValidationScores:
        return ValidationScores({4000: {"vocals": scores.pop(0)}}, {4000: {}}, {4000: {}})

    monkeypatch.setattr(milestones, "validate", validate)
    return scores


def test_validation_after_every_epoch_and_at_the_end(
    scripted_scores: list[float], data: Path, tmp_path: Path
) -> None:
    scripted_scores += [1.0, 3.0, 2.0]
    result = train(replace(TINY, steps=5, epoch_steps=2), data=data, out=tmp_path, device="cpu")
    found = [(event["step"], event["mean"]) for event in events(tmp_path, "validation")]
    assert found == [(2, 1.0), (4, 3.0), (5, 2.0)]
    assert (result.best_score, result.steps) == (3.0, 5)
    assert result.best.read_bytes() != result.last.read_bytes()


def test_patience_ends_a_run_that_gets_no_better(
    scripted_scores: list[float], data: Path, tmp_path: Path
) -> None:
    scripted_scores += [3.0, 2.0, 3.0, 9.0]
    config = replace(TINY, steps=10, epoch_steps=1, patience=2)
    result = train(config, data=data, out=tmp_path, device="cpu")
    assert (result.best_score, result.steps) == (3.0, 3)
    assert load_checkpoint(tmp_path / CHECKPOINT_NAME)["stale_validations"] == 2
    # Going on does not train any further, unless patience is longer.
    assert train(config, data=data, out=tmp_path, device="cpu", resume=True).steps == 3
    longer = replace(config, steps=4, patience=3)
    assert train(longer, data=data, out=tmp_path, device="cpu", resume=True).best_score == 9.0


@pytest.mark.parametrize(("seconds", "frames"), [(0.0, 16000), (1.0, 8000), (60.0, 16000)])
def test_audio_examples(seconds: float, frames: int, data: Path, tmp_path: Path) -> None:
    config = replace(TINY, steps=1, audio_examples=1, validation_seconds=seconds)
    train(config, data=data, out=tmp_path, device="cpu")
    folders = list((tmp_path / "examples").glob("*/*"))
    assert [folder.parent.name for folder in folders] == ["step-0000001"]
    for stem in ("vocals", "drums", "bass", "other"):
        info: Any = soundfile.info(str(folders[0] / f"{stem}.wav"))
        assert (info.frames, info.samplerate, info.channels) == (frames, 8000, 2)


def test_tensorboard_gets_the_numbers_of_the_log(data: Path, tmp_path: Path) -> None:
    train(replace(TINY, steps=3), data=data, out=tmp_path, device="cpu", tensorboard=True)
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    scalars = {event.step: event.value for event in found.Scalars("train/loss")}
    assert scalars == pytest.approx(losses(tmp_path), rel=1e-6)
    score = found.Scalars("validation/mean")[0]
    assert score.value == pytest.approx(events(tmp_path, "validation")[0]["mean"], rel=1e-6)
    assert "validation/si_sdr_improvement/4000/vocals" in found.Tags()["scalars"]
