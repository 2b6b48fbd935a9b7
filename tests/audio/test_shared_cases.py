"""Odd inputs that users of separators have met, against what the program ffmpeg decodes of them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sfisep_core.audio.files import read_audio, read_info
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.separation.separate import SeparationRequest, separate_files

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("ffmpeg") is None,
        reason="the program ffmpeg, which is the reference, is missing",
    ),
]


@pytest.fixture(scope="module")
def cases(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    generator = shared_dir / "cases" / "make_cases.py"
    if not generator.is_file():
        pytest.skip("there is no generator of cases")
    subprocess.run([sys.executable, generator, folder], check=True, stdout=subprocess.DEVNULL)
    return folder


def reference(path: Path, channels: int, *options: str) -> NDArray[np.float32]:
    """Decode with the program ffmpeg."""
    command = ["ffmpeg", "-v", "quiet", *options, "-i", path, "-map", "0:a:0", "-f", "f32le", "-"]
    samples = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, "<f4")
    return samples.reshape(-1, channels).T


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("vbr_no_tag.mp3", None),
        ("cbr_no_tag.mp3", None),
        ("tag_behind.flac", None),
        ("rate_unspecified.opus", None),
        ("plain.opus", None),
        ("whole.ogg", None),
        ("whole.rf64", None),
        ("mp3_stems/train/one/bass.mp3", None),
        ("cut.aiff", r"header announces 529200 frames, 264593 could be decoded \(6.000 s\)"),
        ("cut.rf64", r"header announces 529200 frames, 264587 could be decoded \(6.000 s\)"),
        ("cut.au", r"header announces 529200 frames, 264597 could be decoded \(6.000 s\)"),
        ("cut.ogg", r"its end is missing, behind 5.053 s"),
        ("announces_half.wav", r"ends after 0.500 s by its header, and 88200 bytes follow"),
    ],
)
def test_equals_ffmpeg_sample_by_sample(
    cases: Path, name: str, warning: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    audio, _ = read_audio(cases / name)
    expected = reference(cases / name, audio.shape[0])
    assert audio.shape == expected.shape
    # Integers are equal to the bit; codecs round in other orders.
    np.testing.assert_allclose(audio, expected, atol=1e-6, rtol=0)
    assert read_info(cases / name).frames == audio.shape[1]
    if warning is None:
        assert caplog.messages == []
    else:
        (message,) = caplog.messages
        assert re.search(warning, message)


def test_both_recordings_of_a_joined_file(cases: Path, caplog: pytest.LogCaptureFixture) -> None:
    # ffmpeg reads the first of them.
    audio, _ = read_audio(cases / "joined.wav")
    first = reference(cases / "joined.wav", 2)
    np.testing.assert_array_equal(audio, np.concatenate([first, first], axis=1))
    assert "holds 2 recordings end to end, the second from 1.000 s on" in caplog.messages[0]


def test_opus_of_unspecified_rate_has_48_khz(cases: Path) -> None:
    assert read_info(cases / "rate_unspecified.opus").sample_rate == 48_000


def test_music_before_and_behind_a_fault_of_an_mp3(
    cases: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = cases / "zeros_between_frames.mp3"
    audio, _ = read_audio(path)
    expected = reference(path, 2)
    # One packet is spoiled: ffmpeg leaves it out, here silence keeps its time.
    assert audio.shape[1] == expected.shape[1] + 1152
    (start,) = np.flatnonzero((audio[:, :-1152] != expected).any(axis=0))[:1]
    lost = audio[:, start : start + 1152]
    assert np.all(lost == 0)
    np.testing.assert_array_equal(np.delete(audio, np.s_[start : start + 1152], axis=1), expected)
    assert (
        f"0.026 s are lost, silence stands for them: 0.026 s at {start / 44_100:.3f} s"
        in (caplog.messages[0])
    )


def test_one_wrong_bit_of_a_flac(cases: Path, caplog: pytest.LogCaptureFixture) -> None:
    audio, _ = read_audio(cases / "one_bit_wrong.flac")
    whole, _ = read_audio(cases / "good.flac")
    assert audio.shape == whole.shape
    wrong = np.flatnonzero((audio != whole).any(axis=0))
    assert set(wrong // 4608) == {wrong[0] // 4608}
    assert np.all(audio[:, wrong] == 0)
    assert "0.104 s are lost, silence stands for them: 0.104 s at 3.657 s" in caplog.messages[0]


def test_stems_as_mp3_without_a_tag_have_one_length(cases: Path) -> None:
    for track in ("one", "two"):
        folder = cases / "mp3_stems/train" / track
        lengths = {read_info(path).frames for path in folder.iterdir()}
        assert len(lengths) == 1


def test_stems_as_mp3_are_prepared(cases: Path, tmp_path: Path) -> None:
    prepared = prepare_dataset(
        PreparationRequest(source=cases / "mp3_stems", out=tmp_path / "data")
    )
    assert prepared.skipped == []
    assert sorted(track.name for track in prepared.tracks) == ["one", "two"]


@pytest.mark.parametrize(
    ("folder", "tracks"),
    [
        ("album", {"disc 1/01 intro", "disc 2/01 intro"}),
        ("two", {"song-wav", "song-flac"}),
        ("synced", {"a"}),
    ],
)
def test_folders_are_separated_whole(
    cases: Path, folder: str, tracks: set[str], tmp_path: Path
) -> None:
    model = "sfi-conv-tasnet-small"
    request = SeparationRequest(inputs=(cases / folder,), out=tmp_path, model=model, device="cpu")
    assert not separate_files(request).failed
    stems = [path.relative_to(tmp_path / model) for path in tmp_path.rglob("*.wav")]
    assert len(stems) == 4 * len(tracks)
    assert {str(stem.parent) for stem in stems} == tracks


def test_whole_opus_files_are_read_whole(
    shared_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = shared_dir / "music/extra/accompaniment/ufoai-music_greecei.opus"
    if not path.is_file():
        pytest.skip("the music is not there")
    audio, _ = read_audio(path)
    # libsndfile stops after 95,688 samples.
    expected = reference(path, audio.shape[0])
    assert audio.shape == expected.shape == (2, 4_800_488)
    np.testing.assert_allclose(audio, expected, atol=1e-6, rtol=0)
    assert caplog.messages == []
