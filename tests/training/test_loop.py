import json
import math
import pickle
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from sfisep_core.data.demo_corpus import generate_demo_corpus
from sfisep_core.data.mixing_config import MixingConfig
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.errors import CheckpointError, ConfigError, DatasetError, TrainingError
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.description import read_description
from sfisep_core.pretrained.model_files import load_model, save_model
from sfisep_core.training import loop, milestones
from sfisep_core.training import step as step_module
from sfisep_core.training.checkpoint import ModelAverage, load_checkpoint, save_checkpoint
from sfisep_core.training.config import TrainingConfig
from sfisep_core.training.loop import TrainingProgress, train
from sfisep_core.training.losses import source_losses
from sfisep_core.training.run_log import RunLog
from sfisep_core.training.validation import ValidationScores

pytestmark = pytest.mark.slow

RATE = 8000
SECONDS = 2.0

TINY = TrainingConfig(
    model={
        "num_filters": 16,
        "kernel_size": 320,
        "stride": 160,
        "trunk": "shared",
        "mask": "free",
        "gain_rule": "mixture-consistent",
        "normalizes_level": False,
        "tcn": {
            "bottleneck_channels": 8,
            "hidden_channels": 16,
            "num_layers": 2,
            "num_stacks": 1,
            "norm": "window",
            "norm_window": 21,
        },
    },
    mixing=MixingConfig(excerpt_seconds=1.0, sample_rates=(4000, 6000), speeds=(1.0, 1.25)),
    steps=6,
    batch_size=2,
    warmup_steps=2,
    learning_rate=1e-2,
    ema_decay=0.9,
    log_steps=1,
    validation_rates=(4000,),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set of two seconds for training and two for validation."""
    folder = tmp_path_factory.mktemp("data")
    generate_demo_corpus(
        folder / "demo",
        num_train=1,
        num_valid=1,
        num_test=0,
        seconds=SECONDS,
        sample_rate=RATE,
        seed=0,
    )
    return prepare_dataset(
        PreparationRequest(source=folder / "demo", out=folder / "prepared")
    ).folder


def events(out: Path, kind: str) -> list[dict[str, Any]]:
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def losses(out: Path) -> dict[int, float]:
    return {event["step"]: event["loss"] for event in events(out, "train")}


def assert_equal(found: Any, expected: Any) -> None:
    """Compare nested states; tensors bit by bit."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_equal(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    elif isinstance(expected, Tensor):
        assert torch.equal(found, expected)
    else:
        assert found == expected


class Interruption(Exception):  # it stands for Ctrl-C or a power cut
    """Raised in the middle of a run."""


def interrupt_after(step: int) -> Callable[[TrainingProgress], None]:
    def report(progress: TrainingProgress) -> None:
        if progress.step == step and not progress.message:
            raise Interruption

    return report


def test_one_excerpt_can_be_learnt(data: Path, tmp_path: Path) -> None:
    # The excerpt is the whole track, so every step sees the same music.
    plain = MixingConfig(
        excerpt_seconds=SECONDS,
        remix_probability=0.0,
        gain_probability=0.0,
        flip_probability=0.0,
        sample_rates=(4000,),
        speed_probability=0.0,
        lowpass_probability=0.0,
    )
    config = replace(TINY, mixing=plain, steps=60, batch_size=1, learning_rate=2e-2)
    result = train(config, data=data, out=tmp_path, device="cpu")
    curve = losses(tmp_path)
    assert len(curve) == 60
    first, last = (sum(curve[step] for step in steps) / 3 for steps in ((1, 2, 3), (58, 59, 60)))
    assert first - last > 6.0  # dB
    assert last < -2.5  # a quarter of the mixture as every stem would have -1.1 dB
    assert result.steps == 60
    assert result.best_score == events(tmp_path, "validation")[-1]["mean"]


@pytest.mark.parametrize("schedule", ["stable", "cosine"])
def test_resumed_run_equals_an_uninterrupted_one(schedule: Any, data: Path, tmp_path: Path) -> None:
    # A checkpoint before every step: the interruption loses the step that follows one.
    config = replace(TINY, checkpoint_minutes=0.0, schedule=schedule, decay_share=0.5)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(config, data=data, out=whole, device="cpu")
    for step in (2, 5):
        with pytest.raises(Interruption):
            train(
                config,
                data=data,
                out=parts,
                device="cpu",
                resume=step > 2,
                progress=interrupt_after(step),
            )
        assert load_checkpoint(parts / loop.CHECKPOINT_NAME)["step"] == step - 1
    result = train(config, data=data, out=parts, device="cpu", resume=True)
    assert [event["step"] for event in events(parts, "start")] == [0, 1, 4]
    assert losses(parts) == losses(whole)
    assert events(parts, "validation")[-1] == events(whole, "validation")[-1]
    for name in ("last.safetensors", "best.safetensors"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    states = [load_checkpoint(folder / loop.CHECKPOINT_NAME) for folder in (parts, whole)]
    assert_equal(*states)
    assert states[0]["step"] == 6
    assert (result.last, result.best) == (parts / "last.safetensors", parts / "best.safetensors")


def test_finished_run_is_left_as_it_is(data: Path, tmp_path: Path) -> None:
    train(TINY, data=data, out=tmp_path, device="cpu")
    before = load_checkpoint(tmp_path / loop.CHECKPOINT_NAME)
    model = (tmp_path / "last.safetensors").read_bytes()
    train(TINY, data=data, out=tmp_path, device="cpu", resume=True)
    assert_equal(load_checkpoint(tmp_path / loop.CHECKPOINT_NAME), before)
    assert (tmp_path / "last.safetensors").read_bytes() == model


def test_seed_decides_the_run(data: Path, tmp_path: Path) -> None:
    config = replace(TINY, steps=2)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(replace(config, seed=seed), data=data, out=tmp_path / name, device="cpu")
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert losses(tmp_path / "a") != losses(tmp_path / "c")


def test_existing_run_is_not_overwritten(data: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / loop.CHECKPOINT_NAME
    checkpoint.write_bytes(b"weeks of work")
    with pytest.raises(ConfigError) as raised:
        train(TINY, data=data, out=tmp_path, device="cpu")
    assert str(raised.value) == (
        f"run folder {tmp_path}: holds a run already; pass --resume to go on, or another folder"
    )
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.name]
    assert checkpoint.read_bytes() == b"weeks of work"


def test_nothing_to_resume(data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"not found; there is no run to resume: name its folder"
    ):
        train(TINY, data=data, out=tmp_path / "new", device="cpu", resume=True)
    assert not (tmp_path / "new").exists()


def test_resume_with_another_model_is_refused(data: Path, tmp_path: Path) -> None:
    train(replace(TINY, steps=1), data=data, out=tmp_path, device="cpu")
    other = replace(TINY, model={**TINY.model, "num_filters": 24})
    with pytest.raises(
        CheckpointError,
        match=r"^resume: checkpoint \S+ does not fit this configuration: size mismatch of weight "
        r"[^\n]* \(and \d+ more\)\Z",
    ):
        train(other, data=data, out=tmp_path, device="cpu", resume=True)


def test_resume_with_fewer_steps_than_done_is_refused(data: Path, tmp_path: Path) -> None:
    train(replace(TINY, steps=2), data=data, out=tmp_path, device="cpu")
    with pytest.raises(ConfigError, match=r"has done 2 steps already, got 1: ask"):
        train(replace(TINY, steps=1), data=data, out=tmp_path, device="cpu", resume=True)


@pytest.mark.parametrize("key", ["model", "average", "optimizer", "step"])
def test_resume_with_a_damaged_state_is_one_line(key: str, data: Path, tmp_path: Path) -> None:
    train(replace(TINY, steps=1), data=data, out=tmp_path, device="cpu")
    checkpoint = tmp_path / loop.CHECKPOINT_NAME
    state = load_checkpoint(checkpoint)
    for value in ([1], "text", None):
        save_checkpoint(checkpoint, {**state, key: value})
        with pytest.raises(CheckpointError, match=r"^resume: checkpoint \S+ does not fit [^\n]*\Z"):
            train(TINY, data=data, out=tmp_path, device="cpu", resume=True)


@pytest.mark.parametrize("optimizer", ["adamw", "radam-lookahead", "adadelta"])
def test_state_that_no_optimizer_has_is_refused(
    optimizer: Literal["adamw", "radam-lookahead", "adadelta"], data: Path, tmp_path: Path
) -> None:
    config = replace(TINY, optimizer=optimizer)
    train(replace(config, steps=1), data=data, out=tmp_path, device="cpu")
    checkpoint = tmp_path / loop.CHECKPOINT_NAME
    honest = load_checkpoint(checkpoint)
    first = honest["optimizer"]["state"][0]
    name = next(key for key, value in first.items() if value.dim() > 0)
    for changed, message in (
        ({key: value for key, value in first.items() if key != name}, "is none of"),
        ({**first, "other": first[name]}, "is none of"),
        ({**first, name: "text"}, "expected a tensor of shape"),
        ({**first, name: first[name][:1]}, "expected a tensor of shape"),
        ({**first, name: first[name] * math.nan}, "not finite"),
    ):
        state = deepcopy(honest)
        state["optimizer"]["state"][0] = changed
        save_checkpoint(checkpoint, state)
        with pytest.raises(CheckpointError, match=message):
            train(config, data=data, out=tmp_path, device="cpu", resume=True)
    save_checkpoint(checkpoint, honest)
    assert train(config, data=data, out=tmp_path, device="cpu", resume=True).steps == 6


def test_init_starts_from_the_weights_of_a_model(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    start = build_model(TINY.family, TINY.model)
    save_model(start, tmp_path / "start.safetensors")
    train(
        replace(TINY, steps=2, learning_rate=0.0),
        data=data,
        out=tmp_path / "run",
        init=str(tmp_path / "start.safetensors"),
        device="cpu",
    )
    last = load_model(tmp_path / "run/last.safetensors").state_dict()
    assert_equal(dict(last), dict(start.state_dict()))
    torch.manual_seed(TINY.seed)
    fresh = build_model(TINY.family, TINY.model).state_dict()
    assert not torch.equal(last["masker.conv_in.weight"], fresh["masker.conv_in.weight"])


def test_init_from_a_model_of_another_size_is_refused(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "start.safetensors"
    save_model(build_model(TINY.family, {**TINY.model, "num_filters": 24}), path)
    line = f"^initial weights {path}: they do not fit the configured model: size [^\n]* more\\)\\Z"
    with pytest.raises(CheckpointError, match=line):
        train(TINY, data=data, out=tmp_path / "run", init=str(path), device="cpu")


def test_model_files_say_how_they_were_trained(data: Path, tmp_path: Path) -> None:
    result = train(replace(TINY, steps=2), data=data, out=tmp_path, device="cpu")
    about = read_description(result.last)
    assert about.family == "sfi-conv-tasnet"
    assert about.training["steps"] == 2
    assert about.training["validation_si_sdr_improvement_db"] == round(result.best_score, 3)


def test_foreign_sources_are_refused(data: Path, tmp_path: Path) -> None:
    config = replace(TINY, model={**TINY.model, "sources": ["vocals", "piano"]})
    with pytest.raises(ConfigError) as raised:
        train(config, data=data, out=tmp_path, device="cpu")
    assert str(raised.value) == (
        "setting model.sources: expected stems of the data set (vocals, drums, bass, other), "
        "got piano: where the same stems have other names, prepare the data with `sfisep "
        "prepare-data --map STEM=NAME`"
    )


def test_run_folder_that_cannot_be_made(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, reason in (("file/run", "Not a directory"), ("n" * 300, "File name too long")):
        with pytest.raises(ConfigError, match=f"be written to: {reason}; choose another folder$"):
            train(TINY, data=data, out=tmp_path / name, device="cpu")


def test_run_folder_that_cannot_be_written_to(data: Path, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").mkdir()  # as good as a folder without permission, for root too
    with pytest.raises(ConfigError, match=f"^run folder {tmp_path}: cannot be written to: "):
        train(TINY, data=data, out=tmp_path, device="cpu")


def test_log_that_cannot_be_continued(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "gone")
    log.path.unlink()
    log.path.parent.rmdir()
    with pytest.raises(TrainingError, match=r"gone/log\.jsonl: cannot be written: No such file"):
        log.write(event="train", step=1)


def test_resume_has_no_initial_weights(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--resume goes on .*: leave --init default out$"):
        train(TINY, data=data, out=tmp_path, device="cpu", resume=True, init="default")


def test_model_that_scales_its_input_is_trained_on_scaled_mixtures(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def look(*args: Any, references: Tensor, **arguments: Any) -> Tensor:
        seen.append(references.sum(dim=1))
        return source_losses(*args, references=references, **arguments)

    monkeypatch.setattr(step_module, "source_losses", look)
    config = replace(TINY, model={**TINY.model, "normalizes_level": True}, steps=2)
    train(config, data=data, out=tmp_path, device="cpu")
    for mixture in seen:
        torch.testing.assert_close(mixture.std(dim=-1), torch.ones(2, 1))
    assert len(seen) == 2


def test_score_that_is_not_finite_keeps_the_last_good_models(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(replace(TINY, steps=2), data=data, out=tmp_path, device="cpu")
    names = ("last.safetensors", "best.safetensors", loop.CHECKPOINT_NAME)
    before = [(tmp_path / name).read_bytes() for name in names]

    def score(*_: object, **__: object) -> ValidationScores:
        return ValidationScores({4000: {"vocals": math.nan}}, {4000: {}}, {4000: {}})

    monkeypatch.setattr(milestones, "validate", score)
    with pytest.raises(TrainingError) as raised:
        train(TINY, data=data, out=tmp_path, device="cpu", resume=True)
    assert str(raised.value) == (
        "training: the validation score at step 6 is not finite; the last good checkpoint is "
        f"{tmp_path / loop.CHECKPOINT_NAME}: lower learning_rate"
    )
    assert [(tmp_path / name).read_bytes() for name in names] == before


def test_changed_weight_decay_counts_after_resuming(data: Path, tmp_path: Path) -> None:
    train(replace(TINY, steps=1), data=data, out=tmp_path, device="cpu")
    config = replace(TINY, steps=2, weight_decay=0.25)
    train(config, data=data, out=tmp_path, device="cpu", resume=True)
    groups = load_checkpoint(tmp_path / loop.CHECKPOINT_NAME)["optimizer"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.25, 0.0]


def test_excerpts_longer_than_the_tracks(data: Path, tmp_path: Path) -> None:
    config = replace(TINY, mixing=replace(TINY.mixing, excerpt_seconds=3.0))
    with pytest.raises(DatasetError, match=r"expected tracks of at least 3\.75 s in split 'train'"):
        train(config, data=data, out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_three_steps_that_are_not_finite_stop_the_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(replace(TINY, steps=2), data=data, out=tmp_path, device="cpu")
    before = (tmp_path / loop.CHECKPOINT_NAME).read_bytes()

    def diverge(*args: Any, **arguments: Any) -> Tensor:
        return source_losses(*args, **arguments) * math.nan

    monkeypatch.setattr(step_module, "source_losses", diverge)
    with pytest.raises(TrainingError) as raised:
        train(TINY, data=data, out=tmp_path, device="cpu", resume=True)
    assert str(raised.value) == (
        "training: 3 steps in a row up to step 5 were not finite; the last good checkpoint is "
        f"{tmp_path / loop.CHECKPOINT_NAME}: lower learning_rate"
    )
    assert (tmp_path / loop.CHECKPOINT_NAME).read_bytes() == before
    with pytest.raises(TrainingError, match="were not finite; there is no checkpoint yet: lower"):
        train(TINY, data=data, out=tmp_path / "new", device="cpu")


def test_single_steps_that_are_not_finite_are_left_out(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter(range(TINY.steps))

    def stumble(*args: Any, **arguments: Any) -> Tensor:
        # Every step but the third and the sixth has an infinite loss: never three in a row.
        good = next(steps) in (2, 5)
        return source_losses(*args, **arguments) * (1.0 if good else math.inf)

    monkeypatch.setattr(step_module, "source_losses", stumble)
    result = train(TINY, data=data, out=tmp_path, device="cpu")
    bad = [event["step"] for event in events(tmp_path, "train") if event["steps_not_finite"]]
    assert bad == [1, 2, 4, 5]
    assert [step for step, loss in losses(tmp_path).items() if loss is not None] == [3, 6]
    state = load_checkpoint(tmp_path / loop.CHECKPOINT_NAME)
    assert {int(entry["step"]) for entry in state["optimizer"]["state"].values()} == {2}
    assert all(tensor.isfinite().all() for tensor in load_model(result.last).state_dict().values())


def test_progress(data: Path, tmp_path: Path) -> None:
    reports: list[TrainingProgress] = []
    config = replace(TINY, steps=3)
    train(config, data=data, out=tmp_path, device="cpu", progress=reports.append)
    assert [(report.step, report.steps, bool(report.message)) for report in reports] == [
        (0, 3, False),
        (1, 3, False),
        (2, 3, False),
        (3, 3, False),
        (3, 3, True),
    ]
    assert reports[-1].message.startswith("step 3 of 3: validation: SI-SDR ")
    assert (reports[0].loss, reports[0].learning_rate) == (None, None)
    assert [report.loss for report in reports[1:4]] == pytest.approx(
        list(losses(tmp_path).values()), abs=1e-4
    )


def test_every_step_is_told_of_however_seldom_one_is_logged(data: Path, tmp_path: Path) -> None:
    reports: list[TrainingProgress] = []
    each_step = replace(TINY, steps=5, log_steps=1)
    train(each_step, data=data, out=tmp_path / "each", device="cpu")
    config = replace(TINY, steps=5, log_steps=4)
    train(config, data=data, out=tmp_path / "run", device="cpu", progress=reports.append)
    told = [(report.step, report.loss) for report in reports if not report.message]
    each = list(losses(tmp_path / "each").values())
    assert list(losses(tmp_path / "run")) == [4]
    # A mean over the steps since the last line of the log.
    expected = [None, *(sum(each[:n]) / n for n in (1, 2, 3, 4)), each[4]]
    assert [step for step, _ in told] == list(range(6))
    assert [loss for _, loss in told] == [None, *(pytest.approx(e, abs=1e-4) for e in expected[1:])]
    assert all(report.learning_rate for report in reports[1:])


@pytest.mark.gpu
def test_resume_on_a_gpu(data: Path, tmp_path: Path) -> None:
    config = replace(TINY, checkpoint_minutes=0.0)
    with pytest.raises(Interruption):
        train(config, data=data, out=tmp_path, device="cuda", progress=interrupt_after(3))
    train(config, data=data, out=tmp_path, device="cuda", resume=True)
    state = load_checkpoint(tmp_path / loop.CHECKPOINT_NAME)
    assert (state["step"], state["average_updates"]) == (6, 6)


class Counter(nn.Module):
    """One parameter and two buffers that are set by hand."""

    mean: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("count", torch.zeros(1, dtype=torch.long))


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_moving_average_in_closed_form(decay: float) -> None:
    model = Counter()
    average = ModelAverage(model, decay=decay)
    decays = [min(decay, (1 + n) / (10 + n)) for n in range(1, 21)]
    for update in range(1, 21):
        model.weight.data.fill_(float(update**2))
        model.mean.fill_(update**2)
        model.count.fill_(update)
        average.update(model)
    # Update n counts by (1 - d_n) d_(n+1) ... d_20; the start, at 0, by all of them.
    shares = [(1 - d) * math.prod(decays[n + 1 :]) for n, d in enumerate(decays)]
    assert sum(shares) == pytest.approx(1 - math.prod(decays))
    expected = sum(share * (n + 1) ** 2 for n, share in enumerate(shares))
    assert average.weights["weight"].item() == pytest.approx(expected, rel=1e-12)
    assert average.weights["mean"].item() == pytest.approx(expected, rel=1e-5)
    assert average.weights["count"].item() == 20
    assert average.updates == 20


def test_moving_average_does_not_touch_the_model() -> None:
    model = Counter()
    average = ModelAverage(model, decay=0.5)
    model.weight.data.fill_(1.0)
    assert average.weights["weight"].item() == 0.0
    average.update(model)
    assert model.weight.item() == 1.0


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_interrupted_writer_leaves_the_old_checkpoint(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})

    def save_half(_: object, file: Any) -> None:
        file.write(b"half of it")
        file.flush()
        raise error

    monkeypatch.setattr(torch, "save", save_half)
    expected = CheckpointError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_checkpoint_has_the_permissions_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    save_checkpoint(tmp_path / "checkpoint.pt", {"step": 1})
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 nor an archive"])
def test_damaged_checkpoint(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"^(checkpoint|model file) {path}: "):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [torch.zeros(2), [1], "text", None])
def test_file_that_holds_no_state(content: object, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"it holds \w+ instead of the state of a run$"):
        load_checkpoint(path)


class MakesFolder:
    """Pickles to a call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.mkdir, (self.path,)


def test_checkpoint_runs_no_code(tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "checkpoint.pt"
    pickle.loads(pickle.dumps(MakesFolder(marker)))  # noqa: S301  # the trap works
    marker.rmdir()
    torch.save({"step": MakesFolder(marker)}, path)
    with pytest.raises(CheckpointError, match=r"\A[^\n]*\Z"):
        load_checkpoint(path)
    assert not marker.exists()
