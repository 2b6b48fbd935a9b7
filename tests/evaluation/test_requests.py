"""The functions that a program calls: one request in, one result out, and no work done twice."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sfisep_core.errors import CheckpointError, ConfigError, DatasetError
from sfisep_core.evaluation import plan as plan_module
from sfisep_core.evaluation import resampling_study, summary, systems, tables
from sfisep_core.evaluation.evaluate import EvaluationRequest, evaluate
from sfisep_core.evaluation.resampling_study import ResamplingRequest, compare_resampling
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained import resolve
from sfisep_core.pretrained.model_files import load_model, save_model
from sfisep_core.separation import super_resolution

pytestmark = pytest.mark.slow

Count = Callable[[Any, str], None]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], Counter[str]]:
    """Count the calls of functions, which go on doing what they do."""
    counter: Counter[str] = Counter()

    def count(module: Any, name: str) -> Counter[str]:
        function = getattr(module, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            counter[name] += 1
            return function(*arguments, **named)

        monkeypatch.setattr(module, name, counted)
        return counter

    return count


@pytest.fixture
def request_(data: Path, model: Path, tmp_path: Path) -> EvaluationRequest:
    return EvaluationRequest(
        data=data, model=str(model), out=tmp_path / "out", metrics="sdr", device="cpu"
    )


@pytest.fixture
def network(model: Path, tmp_path: Path) -> Path:
    """A super-resolved model over the small one, whose network can be taken."""
    inner = load_model(model)
    settings = {
        "separator": {"family": inner.family, "config": inner.config_dict()},
        "low_rate": 4000,
        "native_rate": 8000,
        "restorer": {"network": True},
    }
    save_model(build_model("super-resolved", settings), tmp_path / "network.safetensors")
    return tmp_path / "network.safetensors"


@pytest.fixture
def forget_models() -> None:
    """Models that other tests have loaded are loaded again."""
    systems.load.cache_clear()
    super_resolution._network.cache_clear()


def test_result_is_what_the_files_hold(request_: EvaluationRequest, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    asked = replace(request_, baselines=("mixture",), sample_rate=6000, tracks=("noise 0", "*2"))
    result = evaluate(asked, progress=lambda done, total, _: seen.append((done, total)))
    assert seen[-1] == (2, 2)
    assert (result.computed, result.failures, result.report) == (4, [], None)
    assert [(s.system, s.track) for s in result.scores] == [
        *(("native", "noise 0"), ("native", "noise 2")),
        *(("mixture", "noise 0"), ("mixture", "noise 2")),
    ]
    assert result.folder == tmp_path / "out/6000"
    content = (result.folder / "summary.json").read_text(encoding="utf-8")
    assert content == result.to_json() + "\n"
    assert json.loads(content)["tracks"] == ["noise 0", "noise 2"]
    again = evaluate(asked)
    assert again.computed == 0
    assert again.to_json() == result.to_json()


def test_each_number_is_computed_once(
    request_: EvaluationRequest, calls: Callable[[Any, str], Counter[str]]
) -> None:
    pytest.importorskip("matplotlib")
    counter = calls(tables, "track_values")
    for name in ("compare_systems", "summarise", "compare"):
        calls(tables, name)
    calls(summary, "_bootstrap")
    from sfisep_core.evaluation import requests

    calls(requests, "compare_systems")
    study = ResamplingRequest(
        data=request_.data,
        model=str(request_.model),
        out=request_.out,
        metrics="sdr",
        device="cpu",
        methods=("native", "soxr", "mixture"),
        sample_rates=(6000, 8000),
        tracks=("noise 0", "noise 2"),
    )
    result = compare_resampling(study)
    assert result.report == request_.out / "report.html"
    assert result.report.is_file()
    assert counter["compare_systems"] == 1
    assert counter["track_values"] == len(result.scores) == 12
    assert counter["summarise"] == len(result.tables["scores"])
    assert counter["compare"] == len(result.tables["differences"])
    assert counter["_bootstrap"] == counter["summarise"] + counter["compare"]


@pytest.mark.usefixtures("forget_models")
def test_models_are_loaded_once(
    request_: EvaluationRequest,
    network: Path,
    calls: Callable[[Any, str], Counter[str]],
) -> None:
    counter = calls(resolve, "load_model")
    one = replace(request_, tracks=("noise 0",), baselines=("soxr", "mixture"))
    evaluate(one)
    assert counter["load_model"] == 1
    evaluate(one)  # all scores are there
    assert counter["load_model"] == 1
    options = replace(one.method_options, network=str(network))
    evaluate(replace(one, baselines=("super-resolve",), method_options=options))
    assert counter["load_model"] == 2  # the network's
    systems.load.cache_clear()
    evaluate(one)
    assert counter["load_model"] == 2


@pytest.mark.usefixtures("forget_models")
def test_network_that_is_replaced_during_a_run_is_noticed(
    request_: EvaluationRequest, model: Path, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(request_.method_options, network=str(network))
    read = systems.super_resolve

    def replace_network(*arguments: Any, **named: Any) -> Any:
        checked = read(*arguments, **named)
        inner = load_model(model)
        settings = {
            "separator": {"family": inner.family, "config": inner.config_dict()},
            "low_rate": 4000,
            "native_rate": 7000,
        }
        save_model(build_model("super-resolved", settings), network)
        return checked

    monkeypatch.setattr(systems, "super_resolve", replace_network)
    result = evaluate(
        replace(request_, baselines=("super-resolve",), native=False, method_options=options)
    )
    assert len(result.failures) == 3
    assert all("was replaced during the run" in failure.message for failure in result.failures)


@pytest.mark.usefixtures("forget_models")
def test_damaged_weights_are_refused_before_any_work(
    request_: EvaluationRequest, model: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.safetensors"
    loaded = load_model(model)
    save_model(loaded, damaged)
    content = bytearray(damaged.read_bytes())
    content[-4:] = b"\x00\x00\xc0\x7f"  # NaN
    damaged.write_bytes(content)
    with pytest.raises(CheckpointError, match="not finite"):
        evaluate(replace(request_, model=str(damaged)))
    assert not request_.out.exists()


def test_methods_are_checked_before_anything_is_read(
    request_: EvaluationRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []

    def refuse(name: str) -> None:
        checked.append(name)
        msg = "cannot be run here"
        raise ConfigError(msg)

    monkeypatch.setattr(plan_module, "check_method", refuse)
    nowhere = tmp_path / "nowhere"
    with pytest.raises(ConfigError, match="cannot be run here"):
        evaluate(replace(request_, data=nowhere, baselines=("mixture", "resample")))
    with pytest.raises(ConfigError, match="cannot be run here"):
        compare_resampling(ResamplingRequest(data=nowhere, methods=("soxr",), out=request_.out))
    assert checked == ["resample", "soxr"]


def test_missing_split_names_those_that_have_tracks(request_: EvaluationRequest) -> None:
    with pytest.raises(DatasetError, match="or score others with --split test"):
        evaluate(replace(request_, split="valid"))


def test_tables_that_cannot_be_written_are_an_error(request_: EvaluationRequest) -> None:
    (request_.out / "8000/summary.json").mkdir(parents=True)
    with pytest.raises(DatasetError, match="choose another folder"):
        evaluate(replace(request_, baselines=("mixture",), native=False))


def test_only_rates_up_to_the_stored_one_are_compared(request_: EvaluationRequest) -> None:
    rates = resampling_study.SAMPLE_RATES
    assert [rate for rate in rates if rate <= 8000] == [8000]
    result = compare_resampling(
        ResamplingRequest(
            data=request_.data,
            model=str(request_.model),
            out=request_.out,
            metrics="sdr",
            methods=("mixture",),
            report=False,
        )
    )
    assert {scores.sample_rate for scores in result.scores} == {8000}
