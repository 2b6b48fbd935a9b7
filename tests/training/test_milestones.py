"""What a run does now and then: validation, examples to listen to, TensorBoard's files."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sfisep_core.data.demo_corpus import generate_demo_corpus
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.errors import ConfigError
from sfisep_core.foundation.interrupts import StoppedBySignal
from sfisep_core.training import milestones
from sfisep_core.training.checkpoint import load_checkpoint, owned
from sfisep_core.training.loop import CHECKPOINT_NAME, TrainingProgress, train
from sfisep_core.training.validation import ValidationScores
from tests.training.test_loop import TINY, events, losses

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    generate_demo_corpus(
        folder / "demo", num_train=1, num_valid=2, num_test=0, seconds=2, sample_rate=8000, seed=0
    )
    return prepare_dataset(
        PreparationRequest(source=folder / "demo", out=folder / "prepared")
    ).folder


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


@pytest.mark.parametrize("moment", ["validate", "save_model"])
def test_signal_while_validating_keeps_all_steps(
    moment: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(milestones, moment)

    def interrupted(*arguments: Any, **settings: Any) -> Any:
        result = real(*arguments, **settings)
        os.kill(os.getpid(), signal.SIGTERM)
        return result

    config = replace(TINY, steps=4, epoch_steps=2)
    with monkeypatch.context() as patch:
        patch.setattr(milestones, moment, interrupted)
        with pytest.raises(StoppedBySignal) as caught:
            train(config, data=data, out=tmp_path, device="cpu")
    assert caught.value.signal_number == signal.SIGTERM
    state = load_checkpoint(tmp_path / CHECKPOINT_NAME)
    assert (state["step"], state["validated_step"]) == (2, 0)
    train(config, data=data, out=tmp_path, device="cpu", resume=True)
    assert [event["step"] for event in events(tmp_path, "validation")][-2:] == [2, 4]


def test_signal_just_before_a_validation_keeps_all_steps(data: Path, tmp_path: Path) -> None:
    def stop(progress: TrainingProgress) -> None:
        if progress.step == 2 and not progress.message:
            os.kill(os.getpid(), signal.SIGINT)

    config = replace(TINY, steps=4, epoch_steps=2)
    with pytest.raises(StoppedBySignal):
        train(config, data=data, out=tmp_path, device="cpu", progress=stop)
    assert load_checkpoint(tmp_path / CHECKPOINT_NAME)["step"] == 2


def test_folder_of_a_run_belongs_to_one_run(data: Path, tmp_path: Path) -> None:
    with owned(tmp_path), pytest.raises(ConfigError, match="another run is writing there"):
        train(replace(TINY, steps=1), data=data, out=tmp_path, device="cpu")


def test_what_a_killed_run_left_half_written_is_removed(data: Path, tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.0123456789abcdef.part.pt").touch()
    train(replace(TINY, steps=1), data=data, out=tmp_path, device="cpu")
    assert not list(tmp_path.glob("*.part*")) + list(tmp_path.glob(".*.part*"))


def test_interval_of_the_log_may_change_when_going_on(data: Path, tmp_path: Path) -> None:
    train(replace(TINY, steps=4, log_steps=3), data=data, out=tmp_path, device="cpu")
    train(replace(TINY, steps=6, log_steps=2), data=data, out=tmp_path, device="cpu", resume=True)
    found = [(event["step"], event["steps_not_finite"]) for event in events(tmp_path, "train")]
    assert found == [(3, 0), (6, 0)]
