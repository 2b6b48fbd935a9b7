import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sfisep_core.models.registry import FAMILIES
from sfisep_core.pretrained.registry import BUNDLED, BUNDLED_SHA256, RELEASED
from sfisep_core.training.config_files import PRESETS
from tests.pretrained.hub_server import Hub, running_hub, use_hub
from tests.pretrained.test_official import make_checkpoint

REPOSITORY = Path(__file__).resolve().parents[2]
NAME = "sfi-conv-tasnet-td-mpgtf"

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]

SHOW_IMPORTS = """
import sys
from sfisep_cli.app import main
for command in ("list", "download", "verify", "path", "remove", "convert"):
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
        server.plain["my.safetensors"] = BUNDLED["default"].read_bytes()
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
    assert set(rows(capsys.readouterr().out)) >= set(FAMILIES)


def test_list_says_where_models_are(hub: Hub, run_sfisep: Run, capsys: Capture) -> None:
    url = f"{hub.address}/plain/my.safetensors"
    assert run_sfisep("models", "download", NAME, url, "--quiet") == 0
    capsys.readouterr()
    assert run_sfisep("models", "list") == 0
    table = rows(capsys.readouterr().out)
    assert len(table) == 1 + 12 + 1
    size = f"{BUNDLED['default'].stat().st_size / 1e6:.1f} MB"
    assert table["default"][:4] == [size, "32000 Hz", "MIT", "bundled"]
    assert table[NAME] == [
        "0.0 MB",
        "32000 Hz",
        "MIT",
        "cached",
        "multi-phase gammatone filters, time-domain design; MUSDB18-HQ at 32 kHz; seed 40",
    ]
    assert table[f"{NAME}-47"] == ["32000 Hz", "MIT", "not downloaded", "the same from seed 47"]
    assert table[url][:4] == [size, "32000 Hz", "MIT", "cached"]


def test_list_as_json(hub: Hub, run_sfisep: Run, capsys: Capture) -> None:
    assert run_sfisep("models", "list", "--json") == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in entries] == ["default", *RELEASED]
    assert entries[1] == {
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
    assert run_sfisep("models", "download", *names) == 1
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


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([NAME, f"{NAME}-42", "--sha256", "0" * 64], 2, "--sha256: expected one address"),
        ([NAME, "--sha256", "0" * 64], 2, "for an address only"),
        (["{url}", "--sha256", "xyz"], 2, "expected 64 hexadecimal digits"),
        (["{url}", "--sha256", "0" * 64], 1, f"found {BUNDLED_SHA256['default']}"),
        (["{url}", "--sha256", BUNDLED_SHA256["default"]], 0, "my-"),
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
    assert run_sfisep("models", "path", "default") == 0
    assert capsys.readouterr().out == f"{BUNDLED['default']}\n"

    assert run_sfisep("models", "verify") == 0
    assert capsys.readouterr().out == f"default: sound\n{NAME}: sound\n{NAME}-42: sound\n"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert run_sfisep("models", "verify") == 1
    captured = capsys.readouterr()
    assert captured.out == f"default: sound\n{NAME}-42: sound\n"
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
    (tmp_path / "copy").write_bytes(BUNDLED["default"].read_bytes() + b" ")
    monkeypatch.setitem(BUNDLED, "default", tmp_path / "copy")
    assert run_sfisep("models", "verify") == 1
    assert "install sfisep anew" in capsys.readouterr().err


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
