"""What a run tells of its data, and what happens when it goes on with others."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sfisep_core.data.demo_corpus import generate_demo_corpus
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.errors import CheckpointError, ConfigError, DatasetError
from sfisep_core.pretrained.description import read_description
from sfisep_core.training.checkpoint import load_checkpoint, save_checkpoint
from sfisep_core.training.config import TrainingConfig
from sfisep_core.training.loop import train
from tests.training.test_loop import TINY

pytestmark = pytest.mark.slow

CONFIG: TrainingConfig = replace(TINY, steps=2, epoch_steps=2)
LONGER: TrainingConfig = replace(CONFIG, steps=4)


def prepared(folder: Path, *, valid_seed: int, train_seed: int = 0) -> Path:
    for split, seed in (("train", train_seed), ("valid", valid_seed)):
        generate_demo_corpus(
            folder / split,
            num_train=int(split == "train"),
            num_valid=int(split == "valid"),
            num_test=0,
            seconds=2.0,
            sample_rate=8000,
            seed=seed,
        )
        shutil.copytree(folder / split / split, folder / "all" / split)
    request = PreparationRequest(source=folder / "all", out=folder / "prepared")
    return prepare_dataset(request).folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("data"), valid_seed=1)


@pytest.fixture
def run(data: Path, tmp_path: Path) -> Path:
    """A run of two steps."""
    out = tmp_path / "run"
    train(CONFIG, data=data, out=out, device="cpu")
    return out


def starts(out: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (out / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line["event"] == "start"]


def test_checkpoint_model_and_log_name_the_data(data: Path, run: Path) -> None:
    record = load_checkpoint(run / "checkpoint.pt")["data"]
    assert record["folder"] == str(data.resolve())
    assert {name: split["tracks"] for name, split in record["splits"].items()} == {
        "train": 1,
        "valid": 1,
    }
    assert record["splits"]["valid"]["seconds"] == 2.0
    assert re.fullmatch("[0-9a-f]{64}", record["splits"]["valid"]["sha256"])
    (start,) = starts(run)
    assert (start["data"], start["previous_data"]) == (record, None)
    for model in ("best", "last"):
        described = read_description(run / f"{model}.safetensors").training["data"]
        # Models are passed on: where the data lay is nobody's business.
        assert described == {"name": "prepared", "splits": record["splits"]}


def test_a_run_goes_on_with_its_own_data(run: Path) -> None:
    assert train(LONGER, data=None, out=run, device="cpu", resume=True).steps == 4
    assert starts(run)[1]["data"] == starts(run)[0]["data"]
    assert starts(run)[1]["previous_data"] is None


def test_data_may_be_moved(run: Path, data: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(data, tmp_path / "moved")
    train(LONGER, data=moved, out=run, device="cpu", resume=True)
    assert load_checkpoint(run / "checkpoint.pt")["data"]["folder"] == str(moved)


def test_other_data_are_refused(run: Path, data: Path, tmp_path: Path) -> None:
    other = prepared(tmp_path / "other", valid_seed=2)
    before = (run / "checkpoint.pt").read_bytes()
    expected = (
        f"run folder {run}: was trained with {data} (train 1 track, valid 1 track), and {other} "
        "(train 1 track, valid 1 track) differs from it in valid: name the run's own data by "
        "--data, or pass --change-data to go on with others"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(expected)}$"):
        train(LONGER, data=other, out=run, device="cpu", resume=True)
    assert (run / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize("changed", ["train", "valid"])
def test_other_data_where_the_user_says_so(
    changed: str, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = load_checkpoint(run / "checkpoint.pt")
    save_checkpoint(run / "checkpoint.pt", {**checkpoint, "best_score": 99.0})
    seeds = {"valid_seed": 2} if changed == "valid" else {"valid_seed": 1, "train_seed": 5}
    other = prepared(tmp_path / "other", **seeds)
    result = train(LONGER, data=other, out=run, device="cpu", resume=True, change_data=True)
    assert "the run goes on with other data" in caplog.text
    start = starts(run)[1]
    assert start["previous_data"] == checkpoint["data"]
    assert start["data"]["folder"] == str(other)
    # Only scores of one validation set compare.
    assert (result.best_score == 99.0) == (changed == "train")
    assert ("the best score begins anew" in caplog.text) == (changed == "valid")
    # From now on these are the data of the run.
    train(replace(LONGER, steps=5), data=other, out=run, device="cpu", resume=True)


def test_data_that_are_gone(run: Path, data: Path, tmp_path: Path) -> None:
    state = load_checkpoint(run / "checkpoint.pt")
    state["data"]["folder"] = str(tmp_path / "gone")
    save_checkpoint(run / "checkpoint.pt", state)
    with pytest.raises(DatasetError, match=r"no manifest\.json any more: name by --data where"):
        train(LONGER, data=None, out=run, device="cpu", resume=True)
    train(LONGER, data=data, out=run, device="cpu", resume=True)


def test_checkpoints_that_do_not_name_their_data(run: Path, data: Path) -> None:
    state = load_checkpoint(run / "checkpoint.pt")
    del state["data"]
    save_checkpoint(run / "checkpoint.pt", state)
    with pytest.raises(ConfigError, match=r"does not tell which data .*: name them by --data$"):
        train(LONGER, data=None, out=run, device="cpu", resume=True)
    train(LONGER, data=data, out=run, device="cpu", resume=True)
    assert load_checkpoint(run / "checkpoint.pt")["data"]["folder"] == str(data)


SPLIT = {"tracks": 1, "seconds": 2.0, "sha256": "0"}


@pytest.mark.parametrize(
    "record",
    [
        [],
        {},
        {"folder": "x"},
        {"folder": 1, "splits": {"a": SPLIT}},
        {"folder": "x", "splits": {"a": {}}},
        {"folder": "x", "splits": {"a": {**SPLIT, "tracks": "1"}}},
        {"folder": "x", "splits": {"a": {**SPLIT, "seconds": "2"}}},
        {"folder": "x", "splits": {"a": {**SPLIT, "sha256": None}}},
    ],
)
def test_a_damaged_record(record: object, run: Path, data: Path) -> None:
    state = load_checkpoint(run / "checkpoint.pt")
    save_checkpoint(run / "checkpoint.pt", {**state, "data": record})
    with pytest.raises(CheckpointError, match="its record of the data is damaged"):
        train(LONGER, data=data, out=run, device="cpu", resume=True)
