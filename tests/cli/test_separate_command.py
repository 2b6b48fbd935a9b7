import io
import json
import logging
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from sfisep_core.errors import AudioFileError, CheckpointError, ConfigError
from sfisep_core.pretrained import registry
from sfisep_core.results import SeparatedFile
from sfisep_core.separation import jobs as job_module
from sfisep_core.separation.inputs import InputFile, find_files
from sfisep_core.separation.output import Output
from sfisep_core.separation.plan import SeparatorSetup
from sfisep_core.separation.settings import MethodOptions, SeparationSettings

Run = Callable[..., int]


class FakeSeparator:
    """Notes how it is called, writes one stem, and fails for inputs named `bad*`."""

    made: list["FakeSeparator"]
    sources = ("vocals", "drums")
    device = "cpu"

    def __init__(self, setup: SeparatorSetup) -> None:
        if setup.model == "damaged":
            msg = "damaged: not a model"
            raise CheckpointError(msg)
        if setup.device == "nowhere":
            msg = "device 'nowhere': expected auto"
            raise ConfigError(msg)
        self.setup = setup
        self.calls: list[tuple[Path, dict[str, object]]] = []
        FakeSeparator.made.append(self)

    def separate_file(
        self, path: Path, *, progress: Callable[[float, float], None], **settings: object
    ) -> SeparatedFile:
        self.calls.append((path, settings))
        progress(0.5, 1.0)
        if path.name.startswith("interrupt"):
            raise KeyboardInterrupt
        if path.name.startswith("odd"):
            msg = "[nobody] thought of this"
            raise RuntimeError(msg)
        if path.name.startswith("bad"):
            msg = f"{path}: [not] audio"
            raise AudioFileError(msg)
        output, out_dir, track = settings["output"], settings["out_dir"], settings["track"]
        assert isinstance(output, Output)
        assert isinstance(out_dir, Path)
        assert isinstance(track, str)
        files = output.files(track, out_dir, self.sources)
        for name, file in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{name} of {path.read_text()}")
        if path.name.startswith("worn"):
            logging.getLogger("sfisep_core").warning("%s is damaged", path.name)
        if path.name.startswith("mono"):
            return SeparatedFile(path, files, 16000, 1, 24000, 1.5, 0.25, 0.0)
        return SeparatedFile(path, files, 8000, 2, 12000, 1.5, 0.25, -1.25)


@pytest.fixture(autouse=True)
def separators(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[FakeSeparator]:
    """The separators that the command has made; it runs in a folder of its own."""
    FakeSeparator.made = []
    monkeypatch.setattr(job_module, "separator_for", lru_cache(maxsize=1)(FakeSeparator))
    monkeypatch.setattr(registry, "known_sources", lambda _: FakeSeparator.sources)
    monkeypatch.chdir(tmp_path)
    return FakeSeparator.made


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def written() -> list[str]:
    return sorted(str(path) for path in Path().rglob("vocals.wav"))


STRONGER = (
    "there are stronger models, which are downloaded and take longer, such as --model scnet; "
    "`sfisep models list` shows all"
)


def stem_paths(track: str) -> list[str]:
    return [f"separated/default/{track}/{name}.wav" for name in FakeSeparator.sources]


def test_defaults(run_sfisep: Run, separators: list[FakeSeparator]) -> None:
    touch("song.wav")
    assert run_sfisep("separate", "song.wav") == 0
    (separator,) = separators
    assert separator.setup == SeparatorSetup()
    assert separator.calls == [
        (
            Path("song.wav"),
            {
                "out_dir": Path("separated/default"),
                "track": "song",
                "sample_rate": None,
                "output": Output(filename="{track}/{stem}.{ext}"),
            },
        )
    ]
    assert written() == ["separated/default/song/vocals.wav"]


def test_every_option_arrives(run_sfisep: Run, separators: list[FakeSeparator]) -> None:
    touch("a b.wav")
    options = "--out o --name weights/my.v2.safetensors --sr 8000 --device cuda:1 --segment 0 "
    options += "--format flac --int16 --clip-mode none --method super-resolve --quiet --seed 5 "
    options += (
        "--overlap 0.25 --batch-size 3 --precision bf16 --compile --stems drums,vocals --residual "
    )
    options += "--filename {stem}/x/{track}.{ext} --low-rate 4000 --network n.safetensors"
    assert run_sfisep("separate", "a b.wav", *options.split()) == 0
    (separator,) = separators
    assert separator.setup == SeparatorSetup(
        "weights/my.v2.safetensors",
        "cuda:1",
        compiled=True,
        settings=SeparationSettings(
            "super-resolve",
            segment=0.0,
            overlap=0.25,
            batch_size=3,
            precision="bf16",
            options=MethodOptions(seed=5, low_rate=4000, network="n.safetensors"),
        ),
    )
    assert separator.calls == [
        (
            Path("a b.wav"),
            {
                "out_dir": Path("o/weights-my.v2"),
                "track": "a b",
                "sample_rate": 8000,
                "output": Output(
                    "flac",
                    "int16",
                    "none",
                    ("drums", "vocals"),
                    None,
                    residual=True,
                    filename="{stem}/x/{track}.{ext}",
                ),
            },
        )
    ]
    names = sorted(str(path) for path in Path("o").rglob("*.flac"))
    assert names == [
        f"o/weights-my.v2/{name}/x/a b.flac" for name in ("drums", "residual", "vocals")
    ]


def test_every_method_can_be_chosen(run_sfisep: Run, separators: list[FakeSeparator]) -> None:
    from sfisep_core.separation.methods import METHODS

    touch("song.wav")
    for method in METHODS:
        assert run_sfisep("separate", "song.wav", "--method", method) == 0
    assert [separator.setup.settings.method for separator in separators] == list(METHODS)


def test_super_resolve_is_a_method(run_sfisep: Run, separators: list[FakeSeparator]) -> None:
    touch("song.wav")
    assert run_sfisep("separate", "song.wav", "--super-resolve") == 0
    assert separators[-1].setup.settings.method == "super-resolve"
    assert run_sfisep("separate", "song.wav", "--super-resolve", "--method", "soxr") == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["separate", "song.wav", "--low-rate", "8000"], "--low-rate is for the method"),
        (["separate", "song.wav", "--network", "a.safetensors"], "--network is for the method"),
        (["evaluate", "--baseline", "resample", "--low-rate", "8000"], "--low-rate is for"),
        (["compare-resampling", "--network", "a.safetensors"], "--network is for"),
    ],
)
def test_options_of_super_resolution_without_it_are_refused(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert run_sfisep(*arguments) == 2
    assert expected in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("encoding", ["int16", "int24", "float32"])
def test_encoding(encoding: str, run_sfisep: Run, separators: list[FakeSeparator]) -> None:
    touch("song.wav")
    assert run_sfisep("separate", "song.wav", f"--{encoding}") == 0
    output = separators[0].calls[0][1]["output"]
    assert isinstance(output, Output)
    assert output.encoding == encoding


@pytest.mark.parametrize(
    ("options", "container", "bitrate"),
    [
        ("--mp3", "mp3", None),
        ("--flac", "flac", None),
        ("--mp3 --format mp3 --bitrate 192", "mp3", 192),
        ("--format ogg --bitrate 96", "ogg", 96),
    ],
)
def test_short_forms_of_formats(
    options: str,
    container: str,
    bitrate: int | None,
    run_sfisep: Run,
    separators: list[FakeSeparator],
) -> None:
    touch("song.wav")
    assert run_sfisep("separate", "song.wav", *options.split()) == 0
    output = separators[0].calls[0][1]["output"]
    assert isinstance(output, Output)
    assert (output.container, output.bitrate) == (container, bitrate)


def test_two_models_and_shifts(
    run_sfisep: Run, separators: list[FakeSeparator], capsys: pytest.CaptureFixture[str]
) -> None:
    touch("song.wav")
    models = "default+sfi-conv-tasnet-small"
    assert run_sfisep("separate", "song.wav", "-m", models, "--shifts", 3, "--json") == 0
    assert separators[0].setup.model == models
    assert separators[0].setup.settings.shifts == 3
    assert written() == [f"separated/{models}/song/vocals.wav"]
    digests = [registry.BUNDLED_SHA256[name] for name in models.split("+")]
    assert json.loads(capsys.readouterr().out)["model"]["sha256"] == "+".join(digests)


def test_models_of_different_stems_are_refused_before_any_work(
    run_sfisep: Run,
    separators: list[FakeSeparator],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    touch("song.wav")
    stems = {"a": ("vocals", "drums"), "b": ("vocals", "other")}
    monkeypatch.setattr(registry, "known_sources", stems.get)
    assert run_sfisep("separate", "song.wav", "-m", "a+b") == 2
    assert "models a and b: expected the same stems" in capsys.readouterr().err
    assert separators == []


def test_stem_file(
    run_sfisep: Run,
    separators: list[FakeSeparator],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    touch("lib/A/song.wav", "lib/A/take.flac")
    monkeypatch.setattr(FakeSeparator, "sources", ("vocals", "drums", "bass", "other"))
    for _ in range(2):  # the second run does not take stem files for inputs
        assert run_sfisep("separate", "lib", "--format", "stem.mp4", "-o", "beside") == 0
        assert [path.name for path, _ in separators[-1].calls] == ["song.wav", "take.flac"]
    lines = capsys.readouterr().err.splitlines()
    assert lines.count("lib/A/song.stem.mp4") == 2  # once a run
    inputs = ("lib/*/*.wav", "lib/*/*.flac")
    assert run_sfisep("separate", *inputs, "--format", "stem.mp4") == 0
    names = [str(path) for path in Path("separated").rglob("*.mp4")]
    assert sorted(names) == [f"separated/default/A/{name}.stem.mp4" for name in ("song", "take")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "stem.mp4: expected four stems, which players show, got vocals, drums"),
        ("--two-stems vocals", "stem.mp4: expected four stems"),
        ("--float32", "--format stem.mp4 has no floating-point samples"),
        ("--bitrate 256", "bit rate: stem.mp4 has none"),
        (
            "--stems vocals,drums,instrumental,no_drums --filename {track}/{stem}.{ext}",
            "expected one name for all stems",
        ),
    ],
)
def test_what_a_stem_file_cannot_hold(
    options: str, message: str, run_sfisep: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    touch("song.wav")
    assert run_sfisep("separate", "song.wav", "--format", "stem.mp4", *options.split()) == 2
    assert message in capsys.readouterr().err


def test_encodings_exclude_each_other(
    run_sfisep: Run, separators: list[FakeSeparator], capsys: pytest.CaptureFixture[str]
) -> None:
    touch("song.wav")
    assert run_sfisep("separate", "song.wav", "--int16", "--float32") == 2
    assert capsys.readouterr().err == (
        "error: --int16, --int24 and --float32 exclude each other: give one of them\n"
    )
    assert separators == []


def test_address_is_no_input(run_sfisep: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_sfisep("separate", "https://example.org/song?v=1") == 1
    expected = "https://example.org/song?v=1: expected a file, got an address: download it first"
    assert f"error: {expected}" in capsys.readouterr().err


def test_failing_file_does_not_stop_the_others(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    touch("a.wav", "bad.wav", "c.wav")
    assert run_sfisep("separate", "a.wav", "bad.wav", "missing.wav", "c.wav") == 1
    assert written() == ["separated/default/a/vocals.wav", "separated/default/c/vocals.wav"]
    captured = capsys.readouterr()
    assert captured.out == ""
    facts = "1.5 s of music in 0.2 s, turned down by 1.2 dB so that no stem clips"
    assert captured.err.splitlines() == [
        "error: missing.wav: no such file or folder; for music to begin with, run `sfisep demo`",
        "error: bad.wav: [not] audio",
        f"a.wav: {facts}",
        *stem_paths("a"),
        f"c.wav: {facts}",
        *stem_paths("c"),
        "bad.wav: failed",
        "missing.wav: failed",
        "4 inputs: 2 separated, 2 failed; 8000 Hz, 2 channels",
        STRONGER,
    ]


def test_file_that_may_not_be_read_fails_alone(
    run_sfisep: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    touch("bad.wav", "c.wav")
    monkeypatch.setattr("os.access", lambda *_, **__: False)  # whoever runs the tests may be root
    assert run_sfisep("separate", "bad.wav", "c.wav") == 1
    assert written() == ["separated/default/c/vocals.wav"]
    assert capsys.readouterr().err.startswith("error: bad.wav: [not] audio\nc.wav: ")


def test_one_file_is_told_with_its_paths(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    touch("mono.wav")
    assert run_sfisep("separate", "mono.wav") == 0
    assert capsys.readouterr().err.splitlines() == [
        "mono.wav: 1.5 s of music in 0.2 s, 16000 Hz, 1 channel",
        *stem_paths("mono"),
        STRONGER,
    ]


def test_facts_that_differ_are_told_of_each_file(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    touch("a.wav", "mono.wav")
    assert run_sfisep("separate", "a.wav", "mono.wav") == 0
    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("sep")]
    assert told == [
        "a.wav: 1.5 s of music in 0.2 s, 8000 Hz, 2 channels, turned down by 1.2 dB so that no "
        "stem clips",
        "mono.wav: 1.5 s of music in 0.2 s, 16000 Hz, 1 channel",
        "2 inputs: 2 separated",
        STRONGER,
    ]


@pytest.mark.parametrize(
    "arguments", [("a.wav", "--model", "scnet"), ("a.wav", "--json"), ("bad.wav",)]
)
def test_stronger_models_are_named_after_a_separation_with_the_default(
    arguments: tuple[str, ...], run_sfisep: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    touch("a.wav", "bad.wav")
    run_sfisep("separate", *arguments)
    captured = capsys.readouterr()
    assert STRONGER not in captured.out + captured.err
    run_sfisep("separate", "a.wav", "bad.wav")
    captured = capsys.readouterr()
    assert captured.err.count(STRONGER) == 1
    assert STRONGER not in captured.out


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


def test_two_inputs_of_one_name_in_different_folders(
    run_sfisep: Run, separators: list[FakeSeparator], capsys: pytest.CaptureFixture[str]
) -> None:
    touch("x/song.wav", "y/song.wav")
    assert run_sfisep("separate", "x/song.wav", "y/song.wav") == 2
    assert capsys.readouterr().err == (
        "error: x/song.wav and y/song.wav would all write their stems to separated/default/song: "
        'rename one of them, or tell them apart by their folders, as --filename "{parent}/{track}/'
        '{stem}.{ext}" does\n'
    )
    assert separators == []
    advised = ("--filename", "{parent}/{track}/{stem}.{ext}")
    assert run_sfisep("separate", "x/song.wav", "y/song.wav", *advised) == 0
    assert written() == [f"separated/default/{name}/song/vocals.wav" for name in "xy"]


@pytest.mark.parametrize("inputs", [["x/song.wav", "x/song.flac"], ["x"], ["x/*"]])
def test_inputs_of_two_formats_are_told_apart_by_them(
    inputs: list[str], run_sfisep: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    touch("x/song.wav", "x/song.flac", "x/other.wav")
    assert run_sfisep("separate", *inputs, "x/other.wav") == 0
    names = ["other", "song-flac", "song-wav"]
    assert written() == [f"separated/default/{name}/vocals.wav" for name in names]
    told = capsys.readouterr().err.splitlines()
    note = "its track is called {0}, because another input is called song, too"
    assert set(told[:2]) == {
        f"x/song.{suffix}: {note.format(f'song-{suffix}')}" for suffix in ("flac", "wav")
    }


def test_folder_keeps_its_tree(run_sfisep: Run) -> None:
    touch("lib/A/01 intro.flac", "lib/A/cd 2/01 intro.flac", "lib/loose.wav", "named/x.wav")
    assert run_sfisep("separate", "lib", "named/x.wav", "--shard", "1/1") == 0
    tree = ["A/01 intro", "A/cd 2/01 intro", "loose", "x"]
    assert written() == [f"separated/default/{track}/vocals.wav" for track in tree]
    assert run_sfisep("separate", "lib/*/**/*.flac", "-o", "o") == 0
    tree = ["A/01 intro", "A/cd 2/01 intro"]
    assert written()[:2] == [f"o/default/{track}/vocals.wav" for track in tree]


def test_fields_of_file_names(run_sfisep: Run) -> None:
    touch("lib/{A}/song.wav")
    pattern = "{date} {model} {parent} {track}/{stem}.{ext}"
    days = {f"{datetime.now().astimezone():%Y-%m-%d}"}
    assert run_sfisep("separate", "lib", "--filename", pattern, "-m", "runs/a/best") == 0
    days.add(f"{datetime.now().astimezone():%Y-%m-%d}")  # it may be midnight
    ((place,),) = [written()]
    assert place in {f"separated/a-best/{{A}}/{day} a-best {{A}} song/vocals.wav" for day in days}


def test_stems_beside_each_input(
    run_sfisep: Run, separators: list[FakeSeparator], capsys: pytest.CaptureFixture[str]
) -> None:
    touch("lib/A/song.flac", "lib/A/song.wav", "lib/B/take.wav", "lib/B/take/solo.wav")
    for _ in range(2):  # the second run finds the stems of the first
        assert run_sfisep("separate", "lib", "--out", "beside") == 0
        assert [str(path) for path, _ in separators[-1].calls] == [
            "lib/A/song.flac",
            "lib/A/song.wav",
            "lib/B/take/solo.wav",
            "lib/B/take.wav",
        ]
    assert "left out 8 stems of other inputs" in capsys.readouterr().err
    places = ["A/song-flac", "A/song-wav", "B/take", "B/take/solo"]
    assert set(written()) == {f"lib/{place}/vocals.wav" for place in places}
    flat = ("--out", "beside", "--filename", "{track}-{model}-{stem}.{ext}")
    assert run_sfisep("separate", "lib/B/take.wav", *flat) == 0
    assert Path("lib/B/take-default-drums.wav").exists()
    # Whoever names a stem means it.
    assert run_sfisep("separate", "lib/B/take.wav", "lib/B/take/drums.wav", "-o", "beside") == 2
    assert "lib/B/take/drums.wav would be replaced by the stem" in capsys.readouterr().err
    assert run_sfisep("separate", "-", "--out", "beside") == 2
    assert "standard input lies in no folder" in capsys.readouterr().err


def test_file_named_twice_is_separated_once(
    run_sfisep: Run, separators: list[FakeSeparator], tmp_path: Path
) -> None:
    touch("x/song.wav")
    assert run_sfisep("separate", "x/song.wav", "x", "x/../x/song.wav", tmp_path / "x") == 0
    assert [path for path, _ in separators[0].calls] == [Path("x/song.wav")]


def test_folder_gives_its_audio_files(run_sfisep: Run, separators: list[FakeSeparator]) -> None:
    suffixes = ["wav", "FLAC", "ogg", "Opus", "mp3", "aiff", "AIF", "wma", "au", "mov"]
    audio = [f"x/deep/{number}.{suffix}" for number, suffix in enumerate(suffixes)]
    touch(*audio, "x/cover.jpg", "x/wav", "x/folder.wav/take.wav")
    assert run_sfisep("separate", "x") == 0
    found = [str(path) for path, _ in separators[0].calls]
    assert found == [*audio, "x/folder.wav/take.wav"]


def test_folder_passes_over_hidden_folders_and_other_files(
    run_sfisep: Run, separators: list[FakeSeparator], capsys: pytest.CaptureFixture[str]
) -> None:
    touch("x/a.wav", "x/.versions/a.wav", "x/b.jpg", "x/c.JPG", "x/notes", "x/.d.wav", "x/e.tta")
    assert run_sfisep("separate", "x") == 0
    assert [str(path) for path, _ in separators[0].calls] == ["x/a.wav", "x/e.tta"]
    told = " ".join(capsys.readouterr().err.split())
    assert "x: passed over what is not named as audio: .jpg (2), hidden folders (1), no" in told


def test_folder_without_audio_fails(run_sfisep: Run, capsys: pytest.CaptureFixture[str]) -> None:
    touch("x/cover.jpg", "a.wav")
    assert run_sfisep("separate", "x", "a.wav", "-q") == 1
    assert written() == ["separated/default/a/vocals.wav"]
    assert capsys.readouterr().err == (
        "error: x: no audio file in this folder or below; looked for "
        ".3gp .aac .ac3 .aif .aifc .aiff .amr .ape .asf .au .avi .caf .dts .eac3 .flac .flv .m2ts "
        ".m4a .m4b .m4v .mka .mkv .mov .mp2 .mp3 .mp4 .mpc .mpeg .mpg .oga .ogg .ogv .opus .rf64 "
        ".snd .spx .tak .ts .tta .voc .w64 .wav .webm .wma .wmv .wv\n"
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
    assert [separator.setup.model for separator in separators] == [name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("--stems vocals", ["vocals"]),
        ("--stems drums,vocals", ["drums", "vocals"]),
        ("--two-stems drums", ["drums", "no_drums"]),
        ("--residual", ["drums", "residual", "vocals"]),
        ("--stems vocals --residual", ["residual", "vocals"]),
    ],
)
def test_what_is_written(options: str, names: list[str], run_sfisep: Run) -> None:
    touch("song.wav")
    assert run_sfisep("separate", "song.wav", *options.split()) == 0
    assert sorted(path.stem for path in Path("separated/default/song").iterdir()) == names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--stems horns", "stem 'horns': expected one of this model's, vocals, drums"),
        ("--stems vocals,", "stem '': expected one of this model's, vocals, drums"),
        ("--two-stems horns", "stem 'horns': expected one of this model's, vocals, drums"),
        ("--two-stems drums --stems vocals", "two stems are one stem and the rest"),
        ("--two-stems drums --residual", "two stems are one stem and the rest"),
        ("--filename {title}.{ext}", "file name '{title}.{ext}': expected a pattern with {track}"),
        ("--filename {track.{ext}", "file name '{track.{ext}': expected a pattern with {track}"),
        ("--filename {stem:>999999999}.{ext}", "and {ext}, just so, got {stem:>999999999}"),
        ("--filename {track.__class__}/{stem}.{ext}", "just so, got {track.__class__}"),
        ("--filename {stem!r}.{ext}", "just so, got {stem!r}"),
        ("--filename {}/{stem}.{ext}", "just so, got {}"),
        ("--format mp3 --sr 96000", "expected"),
        ("--out song.wav", "folder of stems song.wav: expected a folder, got a file"),
        ("--filename {track}.{ext}", "a name of its own for every stem"),
        ("--filename {track}/{stem}.mp3", "that ends in .{ext}"),
        ("--filename ../{track}/{stem}.{ext}", "inside the output folder"),
        ("--filename /tmp/{track}/{stem}.{ext}", "inside the output folder"),
        ("--format mp3 --int16", "--format mp3 has no sample format: leave --int16 out"),
        ("--mp3 --flac", "--format, --mp3 and --flac exclude each other"),
        ("--mp3 --format wav", "--format, --mp3 and --flac exclude each other"),
        ("--flac --bitrate 192", "bit rate: flac has none"),
        ("--shard 3/2", "shard '3/2': expected I/N"),
        ("--out -", "--out - writes one stem of one file"),
        ("--out - --stems vocals,drums", "--out - writes one stem of one file"),
        ("--out - --two-stems vocals --json", "--out - and --json both write"),
    ],
)
def test_contradictions_are_refused_before_any_work(
    options: str,
    message: str,
    run_sfisep: Run,
    separators: list[FakeSeparator],
    capsys: pytest.CaptureFixture[str],
) -> None:
    touch("song.wav")
    assert run_sfisep("separate", "song.wav", *options.split()) == 2
    assert message in capsys.readouterr().err
    assert not any(separator.calls for separator in separators)


def test_file_names_that_meet_are_refused(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    touch("a.wav", "b.wav")
    assert run_sfisep("separate", "a.wav", "b.wav", "--filename", "{stem}.{ext}") == 2
    assert capsys.readouterr().err.startswith(
        "error: a.wav and b.wav would all write their stems to separated/default: "
    )
    assert run_sfisep("separate", "a.wav", "b.wav", "--filename", "{stem}-{track}.{ext}") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "o/default/vocals/song.wav -o o --filename {stem}/{track}.{ext}",
            "o/default/vocals/song.wav would be replaced by the stem",
        ),
        (
            "a.wav a_no.wav --two-stems drums --filename {track}_{stem}.{ext}",
            "a.wav and a_no.wav would both write separated/default/a_no_drums.wav",
        ),
        (
            "a*.wav --two-stems drums -o -",
            "--out - writes one stem of one file: a*.wav stands for 2",
        ),
    ],
)
def test_files_that_would_be_lost(
    arguments: str,
    message: str,
    run_sfisep: Run,
    separators: list[FakeSeparator],
    capsys: pytest.CaptureFixture[str],
) -> None:
    touch("o/default/vocals/song.wav", "a.wav", "a_no.wav")
    assert run_sfisep("separate", *arguments.split()) == 2
    assert message in capsys.readouterr().err
    assert not any(separator.calls for separator in separators)


def test_links_in_a_circle_and_empty_stems(run_sfisep: Run) -> None:
    touch("x/a.wav", "separated/default/a/vocals.wav", "separated/default/a/drums.wav")
    Path("x/loop").symlink_to(".")
    Path("loop").symlink_to("loop")
    expected = [InputFile(Path("x/a.wav"), Path())]
    assert find_files([Path("x")], outputs=(Path("loop"),)) == (expected, {})
    assert run_sfisep("separate", "x", "--skip-existing") == 0
    assert Path("separated/default/a/vocals.wav").read_text() == "vocals of "


def test_links_of_a_folder_are_followed_or_told(run_sfisep: Run) -> None:
    touch("elsewhere/b.wav", "x/a.wav")
    Path("x/album").symlink_to("../elsewhere")
    Path("x/again").symlink_to("../elsewhere")
    Path("x/gone.wav").symlink_to("nothing")
    assert find_files([Path("x")], outputs=()) == (
        [InputFile(Path("x/a.wav"), Path()), InputFile(Path("x/again/b.wav"), Path("again"))],
        {Path("x/gone.wav"): "x/gone.wav: a link to a file that is not there: mend or remove it"},
    )
    assert run_sfisep("separate", "x", "-q") == 1


def test_error_that_nobody_expected_does_not_stop_the_others(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    touch("odd.wav", "song.wav")
    assert run_sfisep("separate", "odd.wav", "song.wav", "--json") == 1
    captured = capsys.readouterr()
    odd, song = json.loads(captured.out)["files"]
    assert song["status"] == "separated"
    assert "odd.wav: unexpected RuntimeError in test_separate_command.py, line" in odd["error"]
    assert "[nobody] thought of this: please report this" in odd["error"]


def test_closed_standard_streams(
    run_sfisep: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    touch("a.wav")
    monkeypatch.setattr("sys.stdin", None)
    assert run_sfisep("separate", "-", "-q") == 1
    assert "standard input: expected audio, found none" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdout", None)
    assert run_sfisep("separate", "a.wav", "--two-stems", "drums", "-o", "-", "-q") == 1
    assert "standard output: expected it to take a stem" in capsys.readouterr().err


def test_what_exists_is_skipped_if_it_is_all_there(
    run_sfisep: Run, separators: list[FakeSeparator], capsys: pytest.CaptureFixture[str]
) -> None:
    touch("a.wav", "b.wav")
    touch("separated/default/a/vocals.wav", "separated/default/a/drums.wav")
    touch("separated/default/b/vocals.wav")
    for stem in Path("separated/default/a").iterdir():
        stem.write_text("a stem")
    assert run_sfisep("separate", "a.wav", "b.wav", "--skip-existing") == 0
    assert [path.name for path, _ in separators[0].calls] == ["b.wav"]
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "a.wav: its stems are all there already"
    assert told[-2:] == ["2 inputs: 1 separated, 1 there already; 8000 Hz, 2 channels", STRONGER]
    assert run_sfisep("separate", "a.wav", "--overwrite") == 0
    assert Path("separated/default/a/vocals.wav").read_text() == "vocals of "


def test_patterns_stand_for_files(run_sfisep: Run, separators: list[FakeSeparator]) -> None:
    touch("x/a.wav", "x/b.wav", "x/y/c.wav", "x/[1].wav")
    assert run_sfisep("separate", "x/?.wav", "x/**/c.wav", "x/[1].wav") == 0
    found = [str(path) for path, _ in separators[0].calls]
    assert found == ["x/a.wav", "x/b.wav", "x/y/c.wav", "x/[1].wav"]
    assert run_sfisep("separate", "x/*.mp3", "-q") == 1


def test_patterns_leave_out_earlier_stems(run_sfisep: Run, separators: list[FakeSeparator]) -> None:
    touch("a.wav", "separated/default/old/vocals.wav")
    for _ in range(2):
        assert run_sfisep("separate", "**/*.wav") == 0
        assert [str(path) for path, _ in separators[-1].calls] == ["a.wav"]
    # Whoever names the folder means it.
    assert run_sfisep("separate", "separated/default/old/*.wav", "--out", "separated") == 0
    assert [path.name for path, _ in separators[-1].calls] == ["vocals.wav"]


def test_shards_share_the_files(run_sfisep: Run, separators: list[FakeSeparator]) -> None:
    names = [f"{number}.wav" for number in range(7)]
    touch(*names)
    shares = []
    for shard in ("1/3", "2/3", "3/3"):
        separators.clear()
        assert run_sfisep("separate", ".", "--shard", shard, "--out", "elsewhere/o") == 0
        shares.append([path.name for path, _ in separators[0].calls])
    assert shares == [names[::3], names[1::3], names[2::3]]


def test_report_in_json(run_sfisep: Run, capsys: pytest.CaptureFixture[str]) -> None:
    touch("worn.wav", "bad.wav", "done.wav")
    touch("separated/default/done/vocals.wav", "separated/default/done/drums.wav")
    for stem in Path("separated/default/done").iterdir():
        stem.write_text("a stem")
    arguments = ["worn.wav", "bad.wav", "done.wav", "missing.wav", "--json", "--skip-existing"]
    assert run_sfisep("separate", *arguments) == 1
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["schema"] == "sfisep-separation-1"
    assert report["failed"] == 2
    assert report["model"]["name"] == "default"
    assert len(report["model"]["sha256"]) == 64
    assert report["files"] == [
        {
            "path": "worn.wav",
            "status": "separated",
            "error": None,
            "warnings": ["worn.wav is damaged"],
            "device": "cpu",
            "stems": {name: f"separated/default/worn/{name}.wav" for name in ("vocals", "drums")},
            "page": None,
            "sample_rate": 8000,
            "channels": 2,
            "frames": 12000,
            "seconds": 1.5,
            "elapsed_seconds": 0.25,
            "real_time_factor": 6.0,
            "gain_db": -1.25,
        },
        {
            "path": "bad.wav",
            "status": "failed",
            "error": "bad.wav: [not] audio",
            "warnings": [],
            "device": "cpu",
        },
        {"path": "done.wav", "status": "skipped", "error": None, "warnings": [], "device": "auto"},
        {
            "path": "missing.wav",
            "status": "failed",
            "error": "missing.wav: no such file or folder; for music to begin with, run "
            "`sfisep demo`",
            "warnings": [],
        },
    ]
    assert captured.err.count("\n") == 3  # errors and a warning, no summary


def test_standard_input_and_output(
    run_sfisep: Run,
    separators: list[FakeSeparator],
    capsysbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stdin = SimpleNamespace(buffer=io.BytesIO(b"music"))
    monkeypatch.setattr("sys.stdin", stdin)
    assert run_sfisep("separate", "-", "--two-stems", "drums", "-o", "-", "-q") == 0
    assert capsysbinary.readouterr().out == b"drums of music"
    ((path, settings),) = separators[0].calls
    assert settings["track"] == "stdin"
    assert not path.exists()
    assert list(Path().iterdir()) == []
    stdin.buffer = io.BytesIO(b"song")
    assert run_sfisep("separate", "-") == 0
    assert Path("separated/default/stdin/vocals.wav").read_text() == "vocals of song"
