import errno
import json
import logging
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import typer.main

from sfisep_cli import app as app_module
from sfisep_cli.app import app, main
from sfisep_core.errors import CheckpointError, ConfigError, SfisepError

REPOSITORY = Path(__file__).resolve().parents[2]

# Settings of models and training belong in the configuration file, not here: a new flag is a
# decision that this list makes visible.
OPTIONS = {
    "sfisep": "--version --install-completion --show-completion",
    "sfisep demo": "--out --sr --model --name --json --quiet",
    "sfisep separate": "--out --model --name --sr --device --method "
    "--super-resolve --low-rate --network --seed --stems --two-stems "
    "--residual --format --mp3 --flac --bitrate --int16 "
    "--int24 --float32 --clip-mode --filename --no-tags --skip-existing --page --shifts "
    "--segment --overlap --batch-size --precision --compile --jobs --engine --shard --stream --raw "
    "--channels --json --quiet",
    "sfisep listen": "--open --quiet",
    "sfisep prepare-data": "--out --layout --map --exclude --strict --sr --format --encoding "
    "--jobs --engine --shard --verify --demo --tracks --seconds --seed --quiet",
    "sfisep train": "--data --out --config --set --show-config --resume --change-data --init "
    "--precision "
    "--compile --loader-workers --tensorboard --device --threads --gpus --workers --max-restarts "
    "--quiet",
    "sfisep evaluate": "--data --split --track --sr --out --model --baseline --no-native "
    "--estimates --kernel-noise --post-noise --low-rate --network --metrics --allow-upsampled "
    "--save-estimates --segment --device --jobs --engine --shard --json --quiet",
    "sfisep compare-resampling": "--data --split --track --sr --out --model --name --method "
    "--kernel-noise --post-noise --low-rate --network --metrics --allow-upsampled --example "
    "--example-sr --no-report --segment --device --jobs --engine --shard --json --quiet",
    "sfisep env": "--json",
    "sfisep models": "",
    "sfisep models list": "--json --families",
    "sfisep models show": "--json",
    "sfisep models download": "--sha256 --quiet",
    "sfisep models verify": "",
    "sfisep models path": "",
    "sfisep models remove": "",
    "sfisep models convert": "--form --weights",
    "sfisep models join": "--keep --linked",
    "sfisep models average": "--out --weights --linked",
    "sfisep models split": "--out",
    "sfisep models export": "--sr --out --format --seconds --channels",
}

HEAVY_MODULES = (
    "torch",
    "torchaudio",
    "numpy",
    "scipy",
    "soundfile",
    "librosa",
    "matplotlib",
    "sympy",
)

# Runs the command line, then names the heavy modules that it has imported.
SHOW_IMPORTS = f"""
import json, sys
from sfisep_cli.app import main
try:
    main(sys.argv[1:])
finally:
    json.dump(sorted(sys.modules.keys() & set({HEAVY_MODULES!r})), sys.stderr)
"""


def walk(command, name):
    """Return every command of the command line under its full name."""
    found = {name: command}
    for child_name, child in getattr(command, "commands", {}).items():
        found |= walk(child, f"{name} {child_name}")
    return found


COMMANDS = walk(typer.main.get_command(app), "sfisep")


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
    )


@cache
def show_help(name: str) -> subprocess.CompletedProcess[str]:
    return python(SHOW_IMPORTS, *name.split()[1:], "--help")


def give_models(monkeypatch: pytest.MonkeyPatch, list_models: Callable[[], object]) -> None:
    """Let `sfisep models list` call this function instead of the core's."""
    module = SimpleNamespace(list_models=list_models)
    monkeypatch.setitem(sys.modules, "sfisep_core.pretrained.registry", module)


def fail_with(error: BaseException) -> Callable[[], object]:
    def list_models() -> object:
        raise error

    return list_models


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_there_and_imports_nothing_heavy(name: str) -> None:
    done = show_help(name)
    assert done.returncode == 0
    assert f"Usage: {name} " in done.stdout
    assert json.loads(done.stderr) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("1000", "1")),
        ({"GOMP_SPINCOUNT": "5", "THP_MEM_ALLOC_ENABLE": "0"}, ("5", "0")),
        ({"OMP_WAIT_POLICY": "active"}, (None, "1")),
    ],
)
def test_settings_of_libraries_are_made_unless_the_user_has_some(
    given: dict[str, str],
    expected: tuple[str | None, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "THP_MEM_ALLOC_ENABLE"):
        monkeypatch.setenv(name, "")  # so that what `main` sets is undone
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        main(["--version"])
    found = (os.environ.get("GOMP_SPINCOUNT"), os.environ.get("THP_MEM_ALLOC_ENABLE"))
    assert found == expected


@pytest.mark.slow
def test_the_import_check_notices_a_heavy_module() -> None:
    done = python("import numpy\n" + SHOW_IMPORTS, "--help")
    assert json.loads(done.stderr) == ["numpy"]


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_into_80_columns(name: str) -> None:
    shown = show_help(name).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert re.search("<[^>|]*>", shown) is None  # <a|b> are choices, <bool> and <path> mean nothing
    # What is to be typed is not broken over lines.
    words = {word.strip(".") for word in re.split(r"[^\w.-]+", shown)}
    choices = {
        choice
        for option in COMMANDS[name].params
        for choice in getattr(getattr(option, "type_descriptor", None), "choices", None) or ()
    }
    flags = {flag for option in COMMANDS[name].params for flag in option.opts if flag[0] == "-"}
    assert {choice for choice in choices if isinstance(choice, str)} | flags <= words


@pytest.mark.slow
# What can be refused without the model is refused before PyTorch is loaded.
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("separate song.wav --stems horns", 2),
        ("separate song.wav --two-stems horns", 2),
        ("separate song.wav --filename {title}", 2),
        ("separate song.wav --format flac --float32", 2),
        ("separate song.wav --format mp3 --sr 96000", 2),
        ("separate song.wav --overlap 1", 2),
        ("separate song.wav --model nope", 2),
        ("separate song.wav --model .", 2),
        ("separate song.wav --super-resolve --network nope", 2),
        ("separate missing.wav", 1),
        ("separate song.wav --skip-existing", 0),
        ("separate song.wav --skip-existing --json", 0),
        ("demo --model nope", 2),
        ("train --data . --init nope", 1),
        ("evaluate --baseline super-resolve --network nope", 2),
        ("evaluate --model nope", 2),
        ("compare-resampling --model nope", 2),
        ("models list", 0),
        ("models path default", 0),
        ("train --data missing", 1),
    ],
)
def test_torch_is_not_loaded_for_what_needs_no_model(
    arguments: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "song.wav").write_bytes(b"")
    stems = tmp_path / "separated/default/song"
    stems.mkdir(parents=True)
    for name in ("vocals", "drums", "bass", "other"):
        (stems / f"{name}.wav").write_bytes(b"a stem")
    done = subprocess.run(
        [sys.executable, "-c", SHOW_IMPORTS, *arguments.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code
    imported = json.loads(done.stderr.splitlines()[-1])
    assert not {"torch", "torchaudio", "scipy", "librosa", "matplotlib", "sympy"} & set(imported)


@pytest.mark.slow
@pytest.mark.parametrize("sample_rate", [8000, 44100])
def test_separating_loads_no_scipy(sample_rate: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.wav", np.zeros(800), sample_rate)
    song = str(tmp_path / "song.wav")
    done = python(SHOW_IMPORTS, "separate", song, "-d", "cpu", "-o", str(tmp_path), "-q")
    assert json.loads(done.stderr) == ["numpy", "soundfile", "torch"]


@pytest.mark.parametrize("name", COMMANDS)
def test_command_and_options_have_help(name: str) -> None:
    assert COMMANDS[name].help
    assert [option.name for option in COMMANDS[name].params if not option.help] == []


def test_options_are_those_decided_on() -> None:
    found = {
        name: [flag for option in command.params for flag in option.opts if flag.startswith("--")]
        for name, command in COMMANDS.items()
    }
    assert found == {name: options.split() for name, options in OPTIONS.items()}


def test_version_is_the_one_of_the_project(
    run_sfisep: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert run_sfisep("--version") == 0
    assert capsys.readouterr().out == f"sfisep {project['version']}\n"


@pytest.mark.parametrize(
    ("arguments", "parts"),  # how a limit is worded is Typer's
    [
        (["separate", "x", "--sr", "3"], ["--sr HZ: ", "4000", "3", "hertz, such as 44100"]),
        (["separate", "x", "--sr", "44.1k"], ["--sr HZ: ", "'44.1k'", "hertz, such as 44100"]),
        (["evaluate", "--metrics", "ssim"], ["--metrics: ", "'museval'", "'ssim'"]),
        (["models", "convert", "x", "y", "--form", "z"], ["--form: ", "'z'"]),
    ],
)
def test_value_that_an_option_does_not_take_is_one_line(
    arguments: list[str],
    parts: list[str],
    run_sfisep: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_sfisep(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {parts[0]}")
    assert all(part in line for part in parts[1:])
    assert line.endswith(" --help`")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("song.wav", "To separate a file: sfisep separate song.wav"),
        ("lib/song", "To separate a file: sfisep separate lib/song"),
        (
            "separate lib/song --stems vocals drums",
            "error: drums: no such file or folder: several stems are separated by commas, as in "
            "`--stems vocals,drums`",
        ),
        (
            "train run.toml",
            "error: sfisep train: unexpected 'run.toml': files and folders are named by --data "
            "DIR, --out DIR, --config FILE.toml|PRESET: see `sfisep train --help`",
        ),
        ("env now", "error: sfisep env: unexpected 'now': see `sfisep env --help`"),
        (
            "models show default default",
            "error: sfisep models show: unexpected 'default': see `sfisep models show --help`",
        ),
        (
            "evaluate --sr 8000 --sr 16000",
            "error: sfisep evaluate: --sr HZ: expected once, got 2 times: leave one, see `sfisep "
            "evaluate --help`",
        ),
        (
            "prepare-data lib",
            "error: sfisep prepare-data: --out DIR missing: give a source and a folder to write "
            "to, as in `sfisep prepare-data SOURCE --out DIR`, or --demo DIR, which needs no "
            "source",
        ),
    ],
)
def test_likely_mistake_is_told_what_to_write_instead(
    line: str,
    message: str,
    run_sfisep: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lib").mkdir()
    Path("lib/song").touch()
    assert run_sfisep(*line.split()) == 2
    captured = capsys.readouterr()
    assert message in " ".join(captured.err.replace("│", "").split())
    assert captured.out == ""


def test_help_comes_before_repeated_options(
    run_sfisep: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sfisep("separate", "--out", "a", "--out", "b", "--help") == 0
    assert "Usage: sfisep separate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "end"),
    [
        ("separate x.wav --model demucs", "; did you mean hdemucs?"),
        ("models show defualt", "; did you mean default?"),
        ("models show zzz", "the path of a model file; found no such file"),
        ("models show x.safetensors", "the path of a model file; found no such file"),
    ],
)
def test_unknown_model_of_a_similar_name(
    line: str,
    end: str,
    run_sfisep: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.wav").touch()
    assert run_sfisep(*line.split()) == 2
    assert capsys.readouterr().err.endswith(f"{end}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="no command"),
        pytest.param(["--nope"], id="unknown option"),
        pytest.param(["nope"], id="unknown command"),
        pytest.param(["separate"], id="no input"),
        pytest.param(["separate", "a.wav", "--nope"], id="unknown option of a command"),
        pytest.param(["separate", "a.wav", "--sr", "0"], id="rate out of range"),
        pytest.param(["separate", "a.wav", "--format", "mp4"], id="unknown format"),
        pytest.param(["prepare-data"], id="neither source nor demo"),
        pytest.param(["prepare-data", ".", "--demo", "x"], id="source and demo"),
        pytest.param(["prepare-data", ".", "--out", "x", "--tracks", "3"], id="tracks, no demo"),
    ],
)
def test_usage_error(
    arguments: list[str], run_sfisep: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sfisep(*arguments) == 2
    captured = capsys.readouterr()
    # Without a command the help is the answer; wherever it goes, nothing else may be run.
    assert (captured.out + captured.err).strip()
    assert not captured.out or arguments == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SfisepError("it [failed]"), 1),
        (CheckpointError("x.safetensors: damaged, " + "very " * 40 + "much so"), 1),
        (ConfigError("--this excludes --that"), 2),
    ],
)
def test_error_of_the_core_is_one_line_on_stderr(
    error: SfisepError,
    code: int,
    run_sfisep: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    give_models(monkeypatch, fail_with(error))
    assert run_sfisep("models", "list") == code
    captured = capsys.readouterr()
    assert captured.err == f"error: {error}\n"
    assert captured.out == ""


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EMFILE])
def test_error_of_the_system_names_the_place_and_what_to_do(
    number: int,
    run_sfisep: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    error: Any = OSError(number, os.strerror(number), "/cache/models")  # as of Path.is_file
    give_models(monkeypatch, fail_with(error))
    assert run_sfisep("models", "list") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: /cache/models: {os.strerror(number)}: ")


def test_defect_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    give_models(monkeypatch, fail_with(ZeroDivisionError("ours")))
    with pytest.raises(ZeroDivisionError, match="ours"):
        main(["models", "list"])


def test_interrupt_inside_a_command(
    run_sfisep: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    give_models(monkeypatch, fail_with(KeyboardInterrupt()))
    assert run_sfisep("models", "list") == 130


def test_interrupt_outside_a_command(
    run_sfisep: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(app_module, "app", interrupted)
    assert run_sfisep("models", "list") == 130


@pytest.mark.slow
def test_interrupt_signal_ends_the_process_with_130() -> None:
    done = python(
        "import os, signal, sys, types\n"
        "from sfisep_cli.app import main\n"
        "interrupt = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
        "fake = types.SimpleNamespace(list_models=interrupt)\n"
        "sys.modules['sfisep_core.pretrained.registry'] = fake\n"
        "main(['models', 'list'])\n"
    )
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_conversion_of_a_file_into_itself_is_a_usage_error(
    run_sfisep: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "best_checkpoint"
    path.write_bytes(b"weights")
    assert run_sfisep("models", "convert", path, path) == 2
    assert capsys.readouterr().err == (
        f"error: model file {path}: would replace {path}, of which it is made: choose another "
        "name\n"
    )
    assert path.read_bytes() == b"weights"


@pytest.mark.slow
def test_module_runs_as_the_command_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sfisep_cli", "--nope"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "Usage: sfisep " in done.stderr


def test_models_list_shows_the_entries_on_stdout(
    run_sfisep: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    entry = SimpleNamespace(
        name="tiny",
        kind="released",
        state="cached",
        family="f",
        native_rate=8000,
        sources=("a", "b"),
        licence="MIT; see the card",
        description="[x]",
        size=1_550_000,
    )
    give_models(monkeypatch, lambda: [entry])
    assert run_sfisep("models", "list") == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "name  size    trained at  licence  state",
        "tiny  1.6 MB  8000 Hz     MIT      cached",
        "    [x]",
    ]
    assert captured.err == ""


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ([], "separating on cpu\nwarning: 3 samples lost\n"),
        (["--quiet"], "warning: 3 samples lost\n"),
    ],
)
def test_log_of_the_core_is_shown(
    options: list[str],
    shown: str,
    run_sfisep: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def generate(*_: object, **__: object) -> None:
        logger = logging.getLogger("sfisep_core.somewhere")
        logger.info("separating on %s", "cpu")
        logger.warning("%d samples lost", 3)

    module = SimpleNamespace(generate_demo_corpus=generate)
    monkeypatch.setitem(sys.modules, "sfisep_core.data.demo_corpus", module)
    assert run_sfisep("prepare-data", "--demo", tmp_path / "x", *options) == 0
    assert capsys.readouterr().err.startswith(shown)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["env", "--json"], ["models", "list"], ["--help"]])
def test_standard_output_that_is_full(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:  # a device
        process = subprocess.run(
            [sys.executable, "-m", "sfisep_cli", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.returncode == 1
    assert process.stderr == (
        "error: standard output: expected it to take the result, got No space left on device: "
        "make room, or write elsewhere\n"
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    "arguments",
    [
        ("separate", "song.wav", "--out"),
        ("demo", "--out"),
        ("prepare-data", "--tracks", "3", "--seconds", "1", "--demo"),
        ("models", "join", "spleeter-vocals", "sfi-conv-tasnet-small"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_folders_that_cannot_be_made_are_one_line(
    arguments: tuple[str, ...],
    run_sfisep: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write("song.wav", np.zeros(800), 8000)
    # Nobody can make a folder there, not even root; below a file neither.
    for folder in ("/proc/sfisep", "song.wav/x"):
        target = folder if arguments[0] != "models" else f"{folder}/model.safetensors"
        assert run_sfisep(*arguments, target) in (1, 2)
        said = capsys.readouterr()
        (line,) = [line for line in said.err.splitlines() if line.startswith("error: ")]
        assert folder.removesuffix("/sfisep") in line  # the nearest folder that there is
        assert len(line) < 400
        assert "Traceback" not in said.err


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_a_cache_that_cannot_be_made_is_one_line(
    run_sfisep: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SFISEP_CACHE", "/proc/sfisep")
    assert run_sfisep("models", "list") == 0
    assert run_sfisep("models", "download", "scnet") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "/proc/sfisep" in line
    assert "set SFISEP_CACHE to another folder" in line
