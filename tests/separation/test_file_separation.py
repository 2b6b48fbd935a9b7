import errno
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutagen.flac import FLAC

from sfisep_core.audio import stores as stores_module
from sfisep_core.audio.files import read_audio, write_audio
from sfisep_core.errors import AudioFileError, ConfigError
from sfisep_core.separation.file_separation import separate_file
from sfisep_core.separation.output import Output, left_by
from sfisep_core.separation.separator import Separator
from sfisep_core.separation.settings import SeparationSettings
from tests.separation.divider import Divider, Samples, noise

# They do not add up: an eighth of the mixture is missing.
SHARES = (0.5, 0.25, 0.125)
MODEL = "model of the family divider"


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "song.wav"
    write_audio(path, 0.2 * noise(2, 5000), sample_rate=8000, encoding="float32")
    return path


class Keeper(Divider):
    """A divider whose stems are kept as they are."""

    def __init__(self) -> None:
        super().__init__(shares=SHARES)
        self.sources = ("vocals", "drums", "bass")


def run(path: Path, **settings: Any) -> dict[str, Samples]:
    output = Output(encoding="float32", **settings)
    result = Separator(Keeper(), device="cpu").separate_file(
        path, out_dir=path.parent / "out", output=output
    )
    written = sorted(file for file in (path.parent / "out").rglob("*") if file.is_file())
    assert written == sorted(result.stems.values())
    return {name: read_audio(file)[0] for name, file in result.stems.items()}


def test_chosen_stems_in_the_order_of_the_model(song: Path) -> None:
    stems = run(song, stems=("bass", "vocals"))
    assert list(stems) == ["vocals", "bass"]
    np.testing.assert_allclose(stems["bass"], 0.125 * read_audio(song)[0], atol=1e-7)


def test_two_stems_add_up_whatever_the_model_does(song: Path) -> None:
    stems = run(song, two_stems="drums")
    assert list(stems) == ["drums", "no_drums"]
    mixture = read_audio(song)[0]
    np.testing.assert_allclose(stems["drums"], 0.25 * mixture, atol=1e-7)
    np.testing.assert_allclose(stems["no_drums"], 0.75 * mixture, atol=1e-7)


def test_names_for_what_is_left(song: Path) -> None:
    mixture = read_audio(song)[0]
    left = 1 - SHARES[0]
    stems = run(song, stems=("instrumental", "no_bass", "drums", "accompaniment"))
    assert list(stems) == ["drums", "instrumental", "no_bass", "accompaniment"]
    for name in ("instrumental", "accompaniment"):
        np.testing.assert_allclose(stems[name], left * mixture, atol=1e-7)
    np.testing.assert_allclose(stems["no_bass"], 0.875 * mixture, atol=1e-7)


def test_a_stem_of_the_model_is_no_name_for_what_is_left() -> None:
    both = ("vocals", "accompaniment")
    assert left_by("accompaniment", both) is None
    assert left_by("instrumental", both) == "vocals"
    for name in ("no_piano", "no_", "piano", "no_no_vocals"):
        assert left_by(name, both) is None
        with pytest.raises(ConfigError, match="expected one of this model's"):
            Output(stems=(name,)).names(both)
    assert left_by("instrumental", ("speech", "noise")) is None


def test_residual_is_what_all_stems_lack(song: Path) -> None:
    stems = run(song, residual=True, stems=("vocals",))
    assert list(stems) == ["vocals", "residual"]
    np.testing.assert_allclose(stems["residual"], 0.125 * read_audio(song)[0], atol=1e-7)


def test_one_gain_for_all_that_is_written(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    mixture = np.full((1, 3000), 3.0, dtype=np.float32)
    write_audio(path, mixture, sample_rate=8000, encoding="float32")
    separator = Separator(Keeper(), device="cpu")
    result = separator.separate_file(path, out_dir=tmp_path, output=Output(two_stems="drums"))
    gain = 10 ** (result.gain_db / 20)
    assert gain == pytest.approx(32767 / 32768 / 2.25)
    for name, share in {"drums": 0.25, "no_drums": 0.75}.items():
        stem = read_audio(result.stems[name])[0]
        np.testing.assert_allclose(stem, 3 * share * gain, atol=2e-7)


def test_disk_without_room_is_noticed_before_the_work(
    song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores_module, "_LARGEST_IN_MEMORY", 50_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=179_999))
    model = Keeper()
    separator = Separator(model, device="cpu")
    # 5000 frames of 2 channels: three stems at 4 bytes on the disk, and at 2 and more in files.
    message = r"expected 0\.2 MB of free space for temporary samples and stems, found 0\.2 MB"
    with pytest.raises(AudioFileError, match=message):
        separator.separate_file(song, out_dir=song.parent / "out")
    assert not (song.parent / "out").exists()
    assert model.heard == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=180_000))
    separator.separate_file(song, out_dir=song.parent / "out")


def test_no_stem_has_its_name_where_the_last_cannot_get_it(
    song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if target.name == "bass.wav":
            raise OSError(errno.EIO, "Input/output error", str(path), None, str(target))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(AudioFileError, match=r"cannot write '.*bass\.wav': .* Input/output error"):
        run(song)
    assert list((song.parent / "out").iterdir()) == []


def test_input_is_not_replaced_by_a_stem(song: Path) -> None:
    vocals = song.rename(song.with_name("vocals.wav"))
    before = vocals.read_bytes()
    with pytest.raises(ConfigError, match="would be replaced by the stem"):
        Separator(Keeper(), device="cpu").separate_file(vocals, out_dir=vocals.parent)
    assert vocals.read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stems": ()}, "stems: expected one or more"),
        ({"clip_mode": "x"}, "clip mode: expected rescale"),
        ({"container": "x"}, "container: expected one of wav, flac, mp3, ogg, opus, stem"),
        ({"filename": "{track.foo}/{stem}.{ext}"}, "expected a pattern with"),
        ({"filename": "{track:>9999999999999}/{stem}.{ext}"}, "expected a pattern with"),
    ],
)
def test_output_that_cannot_be(settings: dict[str, Any], message: str, song: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        run(song, **settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    "signal",
    [
        np.full((1, 4000), 0.7),
        np.sign(np.sin(np.arange(1, 8001) * 0.05))[None] * (1 - 2**-15),
        np.zeros((3, 4000)),
        np.eye(1, 4000, 2000),
    ],
    ids=["constant", "full-scale square", "silence", "one sample"],
)
def test_unusual_signals(signal: Samples, tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    write_audio(path, signal.astype(np.float32), sample_rate=11025, encoding="float32")
    result = Separator("default", device="cpu").separate_file(
        path, out_dir=tmp_path / "out", output=Output(encoding="float32")
    )
    stems = np.stack([read_audio(file)[0] for file in result.stems.values()])
    assert np.isfinite(stems).all()
    np.testing.assert_allclose(stems.sum(axis=0), signal, atol=2e-6)
    if not signal.any():
        assert not stems.any()


@pytest.mark.slow
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rate=st.integers(4000, 50000),
    target_rate=st.none() | st.integers(4000, 50000),
    channels=st.integers(1, 5),
    frames=st.integers(0, 20000),
    container=st.sampled_from(["wav", "flac"]),
    segment=st.none() | st.floats(0, 2),
    overlap=st.none() | st.floats(0, 0.9),
    batch_size=st.integers(1, 5),
    on_disk=st.booleans(),
    gain_rule=st.sampled_from(["mixture-consistent", "least-squares"]),
    alignment=st.sampled_from([1, 20, 441]),
)
def test_rate_channels_length_and_sum_whatever_the_settings(
    tmp_path: Path,
    rate: int,
    target_rate: int | None,
    channels: int,
    frames: int,
    container: Any,
    segment: float | None,
    overlap: float | None,
    batch_size: int,
    on_disk: bool,
    gain_rule: Any,
    alignment: int,
) -> None:
    path = tmp_path / f"song.{container}"
    write_audio(path, 0.1 * noise(channels, frames), sample_rate=rate, encoding="int24")
    model = Divider(
        gain_rule=gain_rule,
        normalizes_level=gain_rule == "least-squares",
        invariant=gain_rule == "mixture-consistent",
        alignment=alignment,
    )
    separator = Separator(
        model,
        SeparationSettings(segment=segment, overlap=overlap, batch_size=batch_size),
        device="cpu",
    )
    with pytest.MonkeyPatch.context() as patch:
        if on_disk:
            patch.setattr(stores_module, "_LARGEST_IN_MEMORY", 0)
        patch.setattr("sfisep_core.separation.stem_files.BLOCK_FRAMES", 4096)
        patch.setattr("sfisep_core.separation.gains.BLOCK_FRAMES", 4096)
        result = separator.separate_file(
            path,
            out_dir=tmp_path / "out",
            sample_rate=target_rate,
            output=Output(container=container, encoding="int24"),
        )
    stems = []
    for file in result.stems.values():
        stem, stem_rate = read_audio(file)
        assert stem_rate == (target_rate or rate)
        assert stem.shape == (channels, -(-frames * stem_rate // rate))
        stems.append(stem)
    if target_rate in (None, rate):
        np.testing.assert_allclose(np.sum(stems, axis=0), read_audio(path)[0], atol=1e-5)


def test_name_that_cannot_be_written_is_told_before_any_work(song: Path) -> None:
    def separate(*_: object, **__: object) -> None:
        pytest.fail("work was done")

    files = {"vocals": song.parent / f"{'x' * 300}.wav"}
    with pytest.raises(AudioFileError, match="expected a name that can be written, got File name"):
        separate_file(
            song,
            files=files,
            sources=("vocals",),
            stored_sources=(1,),
            sample_rate=None,
            output=Output(),
            provenance="",
            separate=separate,  # type: ignore[arg-type]  # never called
        )


@pytest.mark.slow
def test_stems_without_tags_load_no_mutagen(song: Path) -> None:
    code = (
        "import sys\nfrom sfisep_core import Output, Separator\n"
        "run = Separator('spleeter-vocals', device='cpu').separate_file\n"
        f"run({str(song)!r}, out_dir={str(song.parent / 'out')!r}, output=Output(tags=False))\n"
        "assert 'mutagen' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tags_that_the_disk_does_not_take_leave_no_stem(
    song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sfisep_core.audio.file_writer.write_tags", full)
    with pytest.raises(AudioFileError, match=r"cannot write .*vocals.wav.*No space left"):
        run(song)
    assert list((song.parent / "out").iterdir()) == []


def test_damaged_tags_do_not_stop_a_separation(
    song: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = song.with_suffix(".flac")
    write_audio(path, read_audio(song)[0], sample_rate=8000)
    file: Any = FLAC(path)
    file["title"], file["metadata_block_picture"] = "Song", "no picture"
    file.save()
    assert len(run(path)) == 3
    assert "its tags are damaged, and left out of the stems" in caplog.text
    stem = soundfile.SoundFile(song.parent / "out/vocals.wav")
    assert (stem.title, stem.comment) == ("", f"separated_by: sfisep {version('sfisep')}, {MODEL}")
