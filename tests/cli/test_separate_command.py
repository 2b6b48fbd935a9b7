import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from sfisep_core.errors import AudioFileError, CheckpointError, ConfigError
from sfisep_core.separation.file_separation import Output

Run = Callable[..., int]


class FakeSeparator:
    """Notes how it is called, writes one stem, and fails for inputs named `bad*`."""

    made: list["FakeSeparator"]

    def __init__(self, model: str, **settings: object) -> None:
        if model == "damaged":
            msg = "damaged: not a model"
            raise CheckpointError(msg)
        if settings["device"] == "nowhere":
            msg = "device 'nowhere': expected auto"
            raise ConfigError(msg)
        self.model = model
        self.settings = settings
        self.calls: list[tuple[Path, dict[str, object]]] = []
        FakeSeparator.made.append(self)

    def separate_file(
        self, path: Path, *, progress: Callable[[float, float], None], **settings: object
    ) -> SimpleNamespace:
        self.calls.append((path, settings))
        progress(0.5, 1.0)
        if path.name.startswith("interrupt"):
            raise KeyboardInterrupt
        if path.name.startswith("bad"):
            msg = f"{path}: [not] audio"
            raise AudioFileError(msg)
        folder = settings["out_dir"]
        assert isinstance(folder, Path)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "vocals.wav").touch()
        return SimpleNamespace(
            path=path, sample_rate=8000, channels=2, seconds=1.5, elapsed=0.25, gain_db=-1.25
        )


@pytest.fixture(autouse=True)
def separators(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[FakeSeparator]:
    """The separators that the command has made; it runs in a folder of its own."""
    FakeSeparator.made = []
    module = SimpleNamespace(Separator=FakeSeparator)
    monkeypatch.setitem(sys.modules, "sfisep_core.separation.separator", module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return FakeSeparator.made


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def written() -> list[str]:
    return sorted(str(path) for path in Path().rglob("vocals.wav"))


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of each row of the table in a text, without its headings."""
    rows = [line for line in text.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in row.strip("│").split("│")] for row in rows]


def test_defaults(run_sfisep: Run, separators: list[FakeSeparator]) -> None:
    touch("song.wav")
    assert run_sfisep("separate", "song.wav") == 0
    (separator,) = separators
    assert separator.model == "default"
    assert separator.settings == {"device": "auto", "method": "native", "segment": None}
    assert separator.calls == [
        (
            Path("song.wav"),
            {
                "out_dir": Path("separated/default/song"),
                "sample_rate": None,
                "output": Output("wav", "int24", "rescale"),
            },
        )
    ]


def test_every_option_arrives(run_sfisep: Run, separators: list[FakeSeparator]) -> None:
    touch("a b.wav")
    options = "--out o --name weights/my.v2.safetensors --sr 8000 --device cuda:1 --segment 0 "
    options += "--format flac --int16 --clip-mode none --method resample --quiet"
    assert run_sfisep("separate", "a b.wav", *options.split()) == 0
    (separator,) = separators
    assert separator.model == "weights/my.v2.safetensors"
    assert separator.settings == {"device": "cuda:1", "method": "resample", "segment": 0.0}
    assert separator.calls == [
        (
            Path("a b.wav"),
            {
                "out_dir": Path("o/my.v2/a b"),
                "sample_rate": 8000,
                "output": Output("flac", "int16", "none"),
            },
        )
    ]


def test_every_method_can_be_chosen(run_sfisep: Run, separators: list[FakeSeparator]) -> None:
    from sfisep_core.separation.methods import METHODS

    touch("song.wav")
    for method in METHODS:
        assert run_sfisep("separate", "song.wav", "--method", method) == 0
    assert [separator.settings["method"] for separator in separators] == list(METHODS)


@pytest.mark.parametrize("encoding", ["int16", "int24", "float32"])
def test_encoding(encoding: str, run_sfisep: Run, separators: list[FakeSeparator]) -> None:
    touch("song.wav")
    assert run_sfisep("separate", "song.wav", f"--{encoding}") == 0
    output = separators[0].calls[0][1]["output"]
    assert isinstance(output, Output)
    assert output.encoding == encoding


def test_encodings_exclude_each_other(
    run_sfisep: Run, separators: list[FakeSeparator], capsys: pytest.CaptureFixture[str]
) -> None:
    touch("song.wav")
    assert run_sfisep("separate", "song.wav", "--int16", "--float32") == 2
    assert capsys.readouterr().err == (
        "error: --int16, --int24 and --float32 exclude each other: give one of them\n"
    )
    assert separators == []


def test_failing_file_does_not_stop_the_others(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    touch("a.wav", "bad.wav", "c.wav")
    assert run_sfisep("separate", "a.wav", "bad.wav", "missing.wav", "c.wav") == 1
    assert written() == ["separated/default/a/vocals.wav", "separated/default/c/vocals.wav"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[:2] == [
        "error: missing.wav: no such file or folder",
        "error: bad.wav: [not] audio",
    ]
    numbers = ["8000 Hz", "2", "1.5 s", "0.2 s", "-1.2 dB"]
    assert table_rows(captured.err) == [
        ["a.wav", "separated/default/a", *numbers],
        ["c.wav", "separated/default/c", *numbers],
        ["missing.wav", "failed", "", "", "", "", ""],
        ["bad.wav", "failed", "", "", "", "", ""],
    ]


def test_quiet_shows_errors_only(run_sfisep: Run, capsys: pytest.CaptureFixture[str]) -> None:
    touch("a.wav", "bad.wav")
    assert run_sfisep("separate", "a.wav", "bad.wav", "--quiet") == 1
    captured = capsys.readouterr()
    assert captured.out + captured.err == "error: bad.wav: [not] audio\n"


@pytest.mark.parametrize("name", ["missing.wav", "n" * 300 + ".wav", "file.wav/below.wav"])
def test_no_model_is_loaded_for_nothing(
    name: str, run_sfisep: Run, separators: list[FakeSeparator]
) -> None:
    touch("file.wav")
    assert run_sfisep("separate", name) == 1
    assert separators == []


def test_model_that_fails_is_one_error(run_sfisep: Run, capsys: pytest.CaptureFixture[str]) -> None:
    touch("a.wav", "b.wav")
    assert run_sfisep("separate", "a.wav", "b.wav", "-m", "damaged") == 1
    assert capsys.readouterr().err == "error: damaged: not a model\n"


def test_setting_that_fails_is_a_usage_error(run_sfisep: Run) -> None:
    touch("a.wav")
    assert run_sfisep("separate", "a.wav", "-d", "nowhere") == 2


def test_interrupt_stops_all(run_sfisep: Run, separators: list[FakeSeparator]) -> None:
    touch("a.wav", "interrupt.wav", "z.wav")
    assert run_sfisep("separate", "a.wav", "interrupt.wav", "z.wav") == 130
    assert [path.name for path, _ in separators[0].calls] == ["a.wav", "interrupt.wav"]


@pytest.mark.parametrize(
    ("inputs", "rivals"),
    [
        pytest.param(["x/song.wav", "y/song.wav"], "x/song.wav and y/song.wav", id="two folders"),
        pytest.param(["x/song.wav", "x/song.flac"], "x/song.wav and x/song.flac", id="two formats"),
        pytest.param(["x"], "x/song.flac and x/song.wav", id="found in a folder"),
    ],
)
def test_two_inputs_for_one_output_folder(
    inputs: list[str],
    rivals: str,
    run_sfisep: Run,
    separators: list[FakeSeparator],
    capsys: pytest.CaptureFixture[str],
) -> None:
    touch("x/song.wav", "y/song.wav", "x/song.flac")
    assert run_sfisep("separate", *inputs) == 2
    assert capsys.readouterr().err == (
        f"error: {rivals} would all write their stems to separated/default/song: rename one of "
        "them, or separate them in runs with different --out\n"
    )
    assert separators == []


def test_file_named_twice_is_separated_once(
    run_sfisep: Run, separators: list[FakeSeparator], tmp_path: Path
) -> None:
    touch("x/song.wav")
    assert run_sfisep("separate", "x/song.wav", "x", "x/../x/song.wav", tmp_path / "x") == 0
    assert [path for path, _ in separators[0].calls] == [Path("x/song.wav")]


def test_folder_gives_its_audio_files(run_sfisep: Run, separators: list[FakeSeparator]) -> None:
    suffixes = ["wav", "FLAC", "ogg", "Opus", "mp3", "aiff", "AIF"]
    audio = [f"x/deep/{number}.{suffix}" for number, suffix in enumerate(suffixes)]
    touch(*audio, "x/cover.jpg", "x/wav", "x/folder.wav/take.wav")
    assert run_sfisep("separate", "x") == 0
    found = [str(path) for path, _ in separators[0].calls]
    assert found == [*audio, "x/folder.wav/take.wav"]


def test_folder_without_audio_fails(run_sfisep: Run, capsys: pytest.CaptureFixture[str]) -> None:
    touch("x/cover.jpg", "a.wav")
    assert run_sfisep("separate", "x", "a.wav", "-q") == 1
    assert written() == ["separated/default/a/vocals.wav"]
    assert capsys.readouterr().err == (
        "error: x: no audio file in this folder or below; looked for "
        ".aif .aiff .flac .mp3 .ogg .opus .wav\n"
    )


@pytest.mark.parametrize("out", ["separated", "."])
def test_stems_of_an_earlier_run_are_no_input(
    out: str, run_sfisep: Run, separators: list[FakeSeparator]
) -> None:
    touch("a.wav", f"{out}/default/old/vocals.wav")
    assert run_sfisep("separate", ".", "--out", out) == 0
    assert [path for path, _ in separators[0].calls] == [Path("a.wav")]


def test_stems_are_input_where_the_user_names_them(
    run_sfisep: Run, separators: list[FakeSeparator]
) -> None:
    touch("separated/default/old/vocals.wav")
    assert run_sfisep("separate", "separated/default/old") == 0
    assert [path.name for path, _ in separators[0].calls] == ["vocals.wav"]


def test_flac_has_no_float32(
    run_sfisep: Run, separators: list[FakeSeparator], capsys: pytest.CaptureFixture[str]
) -> None:
    touch("song.wav")
    assert run_sfisep("separate", "song.wav", "--format", "flac", "--float32") == 2
    assert capsys.readouterr().err == (
        "error: --format flac has no floating-point samples: give --int24, or --format wav\n"
    )
    assert separators == []


@pytest.mark.parametrize("rate", [3999, 384001])
def test_rate_out_of_range_is_a_usage_error(
    rate: int, run_sfisep: Run, separators: list[FakeSeparator]
) -> None:
    touch("song.wav")
    assert run_sfisep("separate", "song.wav", "--sr", rate) == 2
    assert separators == []


@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param(["ow/default/vocals/vocals.wav"], id="by itself"),
        pytest.param(["song.wav", "ow/default/song/drums.WAV"], id="by another"),
        pytest.param(["link/vocals.wav"], id="folder behind a link"),
        pytest.param(["vocals.wav"], id="link to the file"),
    ],
)
def test_input_that_a_stem_would_replace(
    inputs: list[str],
    run_sfisep: Run,
    separators: list[FakeSeparator],
    capsys: pytest.CaptureFixture[str],
) -> None:
    touch("song.wav", "ow/default/vocals/vocals.wav", "ow/default/song/drums.WAV")
    Path("link").symlink_to("ow/default/vocals")
    Path("vocals.wav").symlink_to("ow/default/vocals/vocals.wav")
    assert run_sfisep("separate", *inputs, "-o", "ow") == 2
    assert capsys.readouterr().err == (
        f"error: {inputs[-1]} lies where stems are to be written and may be replaced: "
        "change --out\n"
    )
    assert separators == []


def test_input_of_another_format_is_not_replaced(
    run_sfisep: Run, separators: list[FakeSeparator]
) -> None:
    touch("ow/default/vocals/vocals.flac")
    assert run_sfisep("separate", "ow/default/vocals/vocals.flac", "-o", "ow") == 0
    assert len(separators[0].calls) == 1


@pytest.mark.parametrize("name", ["..wav", "...wav"])
def test_name_that_makes_no_folder(
    name: str, run_sfisep: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(name, "a.wav")
    assert run_sfisep("separate", name, "a.wav", "-q") == 1
    assert written() == ["separated/default/a/vocals.wav"]
    assert capsys.readouterr().err == (
        f"error: {name}: no folder can have the name {Path(name).stem!r}: rename it\n"
    )


def test_hidden_files_of_a_folder_are_no_input(
    run_sfisep: Run, separators: list[FakeSeparator]
) -> None:
    touch("x/a.wav", "x/._a.wav", "x/.b.part.wav", "x/..wav")
    assert run_sfisep("separate", "x") == 0
    assert [path for path, _ in separators[0].calls] == [Path("x/a.wav")]


def test_model_name_too_long_for_a_file(run_sfisep: Run, separators: list[FakeSeparator]) -> None:
    touch("bad.wav")
    name = "n" * 300
    assert run_sfisep("separate", ".", "-m", name) == 1
    assert [separator.model for separator in separators] == [name]
