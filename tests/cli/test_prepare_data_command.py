import errno
import fcntl
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.remembered import find_dataset
from sfisep_core.errors import DatasetError

Run = Callable[..., int]


@pytest.fixture
def demo_settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the demo corpus was asked for."""
    asked: dict[str, object] = {}

    def generate(
        directory: Path, *, progress: Callable[[object], None], **settings: object
    ) -> None:
        asked.update(directory=directory, **settings)
        progress(SimpleNamespace(track="train/0", done=1, total=2))

    module = SimpleNamespace(generate_demo_corpus=generate)
    monkeypatch.setitem(sys.modules, "sfisep_core.data.demo_corpus", module)
    return asked


def test_demo_defaults(run_sfisep: Run, demo_settings: dict[str, object], tmp_path: Path) -> None:
    assert run_sfisep("prepare-data", "--demo", tmp_path) == 0
    assert demo_settings == {
        "directory": tmp_path,
        "num_train": 8,
        "num_valid": 2,
        "num_test": 2,
        "seconds": 30.0,
        "sample_rate": 44100,
        "seed": 0,
    }


@pytest.mark.parametrize(
    ("tracks", "split"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (10, (6, 2, 2)), (50, (30, 10, 10))]
)
def test_demo_options(
    tracks: int,
    split: tuple[int, int, int],
    run_sfisep: Run,
    demo_settings: dict[str, object],
    tmp_path: Path,
) -> None:
    options = ["--tracks", tracks, "--seconds", 1.5, "--sr", 8000, "--seed", 7]
    assert run_sfisep("prepare-data", "--demo", tmp_path, *options) == 0
    assert demo_settings == {
        "directory": tmp_path,
        "num_train": split[0],
        "num_valid": split[1],
        "num_test": split[2],
        "seconds": 1.5,
        "sample_rate": 8000,
        "seed": 7,
    }


DEFAULTS = {
    "layout": "auto",
    "stem_map": (),
    "sample_rate": None,
    "container": "wav",
    "encoding": "int16",
    "exclude": (),
    "jobs": 1,
    "engine": "local",
    "shard": None,
    "strict": False,
    "verify": False,
}
COUNTS = "3 tracks in out: 2 train, 1 valid, 0 test\n"
REMEMBERED = "remembered: without --data, commands use out\n"


class FakePrepare:
    """Stands for the core: takes down what it was asked for, and gives what it is told to."""

    VARIABLE = "SFISEP_DATA"

    def __init__(self) -> None:
        self.asked: dict[str, object] = {}
        self.splits = ["train", "valid", "train"]
        self.skipped: list[tuple[str, str]] = []
        self.written = 3
        self.remembered: list[Path] = []

    def prepare_dataset(
        self, request: PreparationRequest, *, progress: Callable[[object], None]
    ) -> SimpleNamespace:
        self.asked = asdict(request)
        progress(SimpleNamespace(track="a", done=1, total=2))
        return SimpleNamespace(
            tracks=[SimpleNamespace(split=split) for split in self.splits],
            skipped=self.skipped,
            written=self.written,
        )

    def remember_dataset(self, folder: Path) -> None:
        self.remembered.append(folder)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakePrepare:
    fake = FakePrepare()
    monkeypatch.setitem(sys.modules, "sfisep_core.data.prepare", fake)
    monkeypatch.setitem(sys.modules, "sfisep_core.data.remembered", fake)
    return fake


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ([], {}),
        (["--sr", 8000], {"sample_rate": 8000}),
        (["--exclude", "a:0-1", "--exclude", "a:5-6"], {"exclude": ("a:0-1", "a:5-6")}),
        (["--map", "vocals=a,b", "--map", "bass=c"], {"stem_map": ("vocals=a,b", "bass=c")}),
        (["--layout", "musdb18-hq"], {"layout": "musdb18-hq"}),
        (["--format", "flac", "--encoding", "int24"], {"container": "flac", "encoding": "int24"}),
        (
            ["-j", 4, "--shard", "2/3", "--engine", "ray"],
            {"jobs": 4, "shard": "2/3", "engine": "ray"},
        ),
        (["--strict", "--verify"], {"strict": True, "verify": True}),
    ],
)
def test_settings(
    options: list[object],
    settings: dict[str, object],
    run_sfisep: Run,
    fake: FakePrepare,
    tmp_path: Path,
) -> None:
    assert run_sfisep("prepare-data", tmp_path, "--out", "out", *options) == 0
    assert fake.asked == {"source": tmp_path, "out": Path("out"), **DEFAULTS, **settings}
    assert fake.remembered == [Path("out")]


@pytest.mark.parametrize(
    ("options", "skipped", "written", "shown", "code"),
    [
        ([], [], 3, COUNTS + REMEMBERED, 0),
        (
            [],
            [],
            0,
            "nothing to do: 3 tracks prepared already in out: 2 train, 1 valid, 0 test\n"
            + REMEMBERED,
            0,
        ),
        ([], [("b", "no drums")], 0, "error: skipped b: no drums\n" + COUNTS + REMEMBERED, 1),
        (["-q"], [("b", "no drums")], 3, "error: skipped b: no drums\n", 1),
        (["-q"], [], 0, "", 0),
    ],
)
def test_what_is_shown(
    options: list[str],
    skipped: list[tuple[str, str]],
    written: int,
    shown: str,
    code: int,
    run_sfisep: Run,
    fake: FakePrepare,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    fake.skipped, fake.written = skipped, written
    assert run_sfisep("prepare-data", tmp_path, "--out", "out", *options) == code
    assert capsys.readouterr().err == shown
    assert fake.remembered == [Path("out")]


def test_variable_that_goes_first_is_named(
    run_sfisep: Run,
    fake: FakePrepare,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("SFISEP_DATA", "elsewhere")
    assert run_sfisep("prepare-data", tmp_path, "--out", "out") == 0
    assert fake.remembered == [Path("out")]
    assert capsys.readouterr().err.endswith("use out, once SFISEP_DATA is no longer set\n")


def test_nothing_prepared_is_not_remembered(
    run_sfisep: Run, fake: FakePrepare, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fake.splits, fake.skipped, fake.written = [], [("a", "no bass")], 0
    assert run_sfisep("prepare-data", tmp_path, "--out", "out") == 1
    assert fake.remembered == []
    assert capsys.readouterr().err == (
        "error: skipped a: no bass\n0 tracks in out: 0 train, 0 valid, 0 test\n"
    )


def test_what_cannot_be_remembered_is_a_warning(
    run_sfisep: Run,
    fake: FakePrepare,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def fail(_: Path) -> None:
        msg = "cannot remember out"
        raise DatasetError(msg)

    monkeypatch.setattr(fake, "remember_dataset", fail)
    assert run_sfisep("prepare-data", tmp_path, "--out", "out") == 0
    assert capsys.readouterr().err == COUNTS + "warning: cannot remember out\n"


def test_demo_is_remembered_and_not_prepared_again(
    run_sfisep: Run,
    demo_settings: dict[str, object],
    fake: FakePrepare,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_sfisep("prepare-data", "--demo", tmp_path, "--tracks", 10) == 0
    assert (fake.asked, fake.remembered, demo_settings["seed"]) == ({}, [tmp_path], 0)
    assert capsys.readouterr().err == (
        f"10 tracks in {tmp_path}: 6 train, 2 valid, 2 test\n"
        f"remembered: without --data, commands use {tmp_path}\n"
    )


@pytest.mark.slow
def test_demo_is_evaluated_and_separated_at_once(
    run_sfisep: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = tmp_path / "demo"
    options = ["--tracks", 3, "--seconds", 2, "--sr", 16000, "--quiet"]
    assert run_sfisep("prepare-data", "--demo", demo, *options) == 0
    score = ["evaluate", "--sr", 8000, "--baseline", "mixture", "--metrics", "sdr", "--json"]
    for number, data in enumerate((["--data", demo], [])):  # named, and remembered
        out = tmp_path / f"scores{number}"
        assert run_sfisep(*score, *data, "--out", out, "--device", "cpu") == 0
        assert (out / "8000/default.native/test/demo_0002.json").is_file()
        assert (out / "8000/mixture/test/demo_0002.json").is_file()
    capsys.readouterr()
    assert find_dataset(None) == demo


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "sfisep prepare-data: SOURCE and --out DIR missing: give a source"),
        (["."], "sfisep prepare-data: --out DIR missing: give a source"),
        (["--demo", "x", "--out", "y"], "--out: not for --demo: leave it out"),
        (
            ["--demo", "x", "--layout", "folders", "--map", "a=b", "--exclude", "c", "--strict"],
            "--layout, --map, --exclude, --strict: not for --demo: leave them out",
        ),
        (
            ["--demo", "x", "--format", "flac", "--encoding", "int24", "-j", "2", "--shard", "1/2"],
            "--format, --encoding, --jobs, --shard: not for --demo",
        ),
        (["--demo", "x", "--verify", "."], "SOURCE, --verify: not for --demo"),
        (
            [".", "--out", "y", "--seed", "0", "--tracks", "5"],
            "--tracks, --seed: for --demo only",
        ),
    ],
)
def test_what_would_have_no_effect_is_refused(
    arguments: list[str], message: str, run_sfisep: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sfisep("prepare-data", *arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--exclude", "song:28"], "exclusion 'song:28': expected TRACK:START-END"),
        (["--map", "song"], "mapping 'song': expected STEM=NAME"),
        (["--shard", "3/2"], "shard '3/2': expected I/N"),
        (["--format", "flac", "--encoding", "float32"], "expected int16 or int24 in FLAC"),
    ],
)
def test_malformed_setting_is_a_usage_error(
    options: list[str],
    message: str,
    run_sfisep: Run,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    assert run_sfisep("prepare-data", tmp_path, "--out", out, *options) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def write_track(folder: Path) -> None:
    folder.mkdir(parents=True)
    for stem in ("vocals", "drums", "bass", "other"):
        soundfile.write(folder / f"{stem}.wav", np.full(8000, 0.25), 8000)


def test_first_and_second_call(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("train/a", "valid/b"):
        write_track(tmp_path / "in" / name)
    out = tmp_path / "out"
    found = f"{tmp_path / 'in'}: 2 tracks, layout folders\n"
    remembered = f"remembered: without --data, commands use {out}\n"
    for shown in ("2 tracks in", "nothing to do: 2 tracks prepared already in"):
        assert run_sfisep("prepare-data", tmp_path / "in", "--out", out) == 0
        assert capsys.readouterr().err == (
            f"{found}{shown} {out}: 1 train, 1 valid, 0 test\n{remembered}"
        )
    assert find_dataset(None) == out


def test_strict_fails_with_the_track(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_track(tmp_path / "in/a")
    write_track(tmp_path / "in/b")
    (tmp_path / "in/b/bass.wav").unlink()
    options = ["--out", tmp_path / "out", "--strict"]
    assert run_sfisep("prepare-data", tmp_path / "in", *options) == 1
    assert capsys.readouterr().err.endswith(
        "error: train/b: expected stems vocals, drums, bass, other; missing bass; nothing further "
        "is prepared, as --strict asks\n"
    )
    assert not list((tmp_path / "out").rglob("*.wav"))


def test_out_whose_name_is_too_long(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "song").mkdir()
    (tmp_path / "song/vocals.wav").touch()
    assert run_sfisep("prepare-data", tmp_path, "--out", tmp_path / ("x" * 300)) == 1
    assert "cannot be made: File name too long" in capsys.readouterr().err


@pytest.mark.slow
def test_file_systems_without_locks_are_named(
    tmp_path: Path,
    run_sfisep: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def flock(_: int, operation: int) -> None:
        if operation & fcntl.LOCK_EX:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    data = tmp_path / "data"
    assert run_sfisep("prepare-data", "--demo", data, "--tracks", 3, "--seconds", 2) == 1
    said = capsys.readouterr().err
    assert "the file system has no locks" in said
    assert str(data) in said
