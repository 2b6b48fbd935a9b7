import contextlib
import errno
import logging
import os
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from sfisep_core.audio import file_writer
from sfisep_core.audio.files import (
    AudioInfo,
    AudioReader,
    AudioWriter,
    Encoding,
    check_output_format,
    complete,
    read_audio,
    read_info,
    write_audio,
)
from sfisep_core.errors import AudioFileError, ConfigError

RATES = [4000, 8000, 11025, 22050, 44100, 44101, 96000, 192000, 384000]
BITS: dict[Encoding, int] = {"int16": 16, "int24": 24}

needs_mp3 = pytest.mark.skipif(
    "MP3" not in soundfile.available_formats(), reason="this libsndfile has no MP3"
)


def grid_samples(encoding: Encoding, channels: int, frames: int) -> NDArray[np.float32]:
    """Return random samples that the encoding can hold, both ends of its range included."""
    rng = np.random.default_rng(0)
    if encoding == "float32":
        audio = rng.standard_normal((channels, frames), dtype=np.float32) * np.float32(3)
    else:
        full_scale = 2 ** (BITS[encoding] - 1)
        steps = rng.integers(-full_scale, full_scale, (channels, frames))
        steps[:, :2] = -full_scale, full_scale - 1
        audio = (steps / full_scale).astype(np.float32)
    return audio


def music(frames: int = 96000, channels: int = 2) -> NDArray[np.float32]:
    noise = np.random.default_rng(0).standard_normal((channels, frames), dtype=np.float32)
    tone = np.sin(2 * np.pi * 440 * np.arange(frames) / 48000).astype(np.float32)
    return np.float32(0.3) * tone + np.float32(0.01) * noise


def encode(path: Path, audio: NDArray[np.float32], sample_rate: int, subtype: str) -> Path:
    """Write with soundfile alone, in short blocks."""
    container = {".opus": "OGG"}.get(path.suffix)
    with soundfile.SoundFile(path, "w", sample_rate, len(audio), subtype, format=container) as file:
        for start in range(0, audio.shape[1], 4096):
            file.write(audio[:, start : start + 4096].T)
    return path


def refused(path: Path) -> str:
    """Return the error that all ways to read a file agree on."""
    with pytest.raises(AudioFileError) as error:
        read_info(path)
    with pytest.raises(AudioFileError, match=re.escape(str(error.value))):
        read_audio(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"cannot read {str(path)!r}: expected ")
    return str(error.value)


def write_blocks(writer: AudioWriter, *blocks: NDArray[np.float32]) -> None:
    with writer:
        for block in blocks:
            writer.write(block)


@contextlib.contextmanager
def disk_of(limit: int) -> Iterator[None]:
    """Let no file of this process grow beyond a limit in bytes, as on a full disk."""
    resource = pytest.importorskip("resource", reason="file size limits are POSIX")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Round trips


@pytest.mark.parametrize("sample_rate", RATES)
@pytest.mark.parametrize(
    ("suffix", "encoding", "channels"),
    [
        *[
            (".wav", encoding, n)
            for encoding in ("int16", "int24", "float32")
            for n in (1, 2, 6, 9)
        ],
        *[(".flac", encoding, n) for encoding in ("int16", "int24") for n in (1, 2, 6, 8)],
    ],
)
def test_round_trip_is_bit_exact(
    tmp_path: Path, suffix: str, encoding: Encoding, channels: int, sample_rate: int
) -> None:
    if suffix == ".flac" and sample_rate > 65535 and sample_rate % 10:
        pytest.skip("FLAC has no such rate")
    path = tmp_path / f"x{suffix}"
    audio = grid_samples(encoding, channels, 5000)
    write_audio(path, audio, sample_rate=sample_rate, encoding=encoding)
    again, rate = read_audio(path)
    assert rate == sample_rate
    assert again.dtype == np.float32
    assert again.flags.c_contiguous
    np.testing.assert_array_equal(again, audio)
    mask = {6: 0x3F, 8: 0x63F}.get(channels, 0) if suffix == ".flac" else 0
    assert read_info(path) == AudioInfo(
        path, sample_rate, channels, 5000, suffix.removeprefix("."), encoding, mask
    )
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("frames", [0, 1, 2])
@pytest.mark.parametrize(
    ("suffix", "encoding"),
    [
        (".wav", "int16"),
        (".wav", "int24"),
        (".wav", "float32"),
        (".flac", "int16"),
        (".flac", "int24"),
    ],
)
def test_shortest_files(tmp_path: Path, suffix: str, encoding: Encoding, frames: int) -> None:
    path = tmp_path / f"x{suffix}"
    audio = grid_samples(encoding, 3, 2)[:, :frames]
    write_audio(path, audio, sample_rate=11025, encoding=encoding)
    again, rate = read_audio(path)
    assert (again.shape, rate) == ((3, frames), 11025)
    np.testing.assert_array_equal(again, audio)
    info = read_info(path)
    assert (info.frames, info.channels, info.encoding) == (frames, 3, encoding)
    with AudioReader(path) as reader:
        assert len(list(reader.blocks())) == min(frames, 1)


def test_empty_vorbis(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.ogg", np.zeros((2, 0), np.float32), 48000, "VORBIS")
    audio, rate = read_audio(path)
    assert (audio.shape, rate) == ((2, 0), 48000)


@pytest.mark.parametrize(("encoding", "suffix"), [("int16", ".wav"), ("int24", ".flac")])
def test_integers_round_to_the_nearest_and_clip(
    tmp_path: Path, encoding: Encoding, suffix: str
) -> None:
    full_scale = 2 ** (BITS[encoding] - 1)
    steps = np.array([[0.4, 0.6, -0.4, -0.6, 1.5, 2.5, -1.5]])
    audio = (steps / full_scale).astype(np.float32)
    beyond = np.array([[1.0, 1.5, 1e30, -1.0, -1.5, -1e30]], dtype=np.float32)
    write_audio(
        tmp_path / f"x{suffix}",
        np.concatenate([audio, beyond], axis=1),
        sample_rate=8000,
        encoding=encoding,
    )
    again, _ = read_audio(tmp_path / f"x{suffix}")
    top = full_scale - 1
    expected = [0, 1, 0, -1, 2, 2, -2, top, top, top, -full_scale, -full_scale, -full_scale]
    assert (again[0].astype(np.float64) * full_scale).tolist() == expected


def test_float_is_never_touched(tmp_path: Path) -> None:
    audio = np.array([[3.5, -7.0, 1e-30, np.finfo(np.float32).max]], dtype=np.float32)
    write_audio(tmp_path / "x.wav", audio, sample_rate=8000, encoding="float32")
    np.testing.assert_array_equal(read_audio(tmp_path / "x.wav")[0], audio)


def test_8_bit_and_64_bit_wav(tmp_path: Path) -> None:
    steps = np.arange(-128, 128)
    path = encode(tmp_path / "u8.wav", (steps[None] / 128).astype(np.float32), 8000, "PCM_U8")
    np.testing.assert_array_equal(read_audio(path)[0][0] * 128, steps)
    assert read_info(path).encoding == "uint8"
    doubles = np.random.default_rng(0).standard_normal((2, 1000))
    soundfile.write(tmp_path / "f64.wav", doubles.T, 44100, "DOUBLE")
    np.testing.assert_array_equal(read_audio(tmp_path / "f64.wav")[0], doubles.astype(np.float32))
    assert read_info(tmp_path / "f64.wav").encoding == "float64"


@pytest.mark.parametrize(
    ("name", "subtype", "container", "encoding"),
    [
        ("x.ogg", "VORBIS", "ogg", "vorbis"),
        ("x.opus", "OPUS", "ogg", "opus"),
        pytest.param("x.mp3", "MPEG_LAYER_III", "mp3", "mp3", marks=needs_mp3),
        ("x.aiff", "PCM_24", "aiff", "int24"),
    ],
)
def test_codecs_and_parts_of_files(
    tmp_path: Path, name: str, subtype: str, container: str, encoding: str
) -> None:
    audio = music()
    path = encode(tmp_path / name, audio, 48000, subtype)
    assert read_info(path) == AudioInfo(path, 48000, 2, 96000, container, encoding)
    whole, _ = read_audio(path)
    # The codecs keep the tone and the time line; the noise is theirs to lose.
    assert np.corrcoef(whole[0], audio[0])[0, 1] > 0.99
    for start, frames in [(0, 0), (1, 1), (12345, 500), (65536, 70000), (95999, 9), (96000, 9)]:
        part, _ = read_audio(path, start=start, frames=frames)
        np.testing.assert_array_equal(part, whole[:, start : start + frames])


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_parts_of_linear_files(tmp_path: Path, suffix: str) -> None:
    audio = grid_samples("int16", 2, 150_000)
    path = tmp_path / f"x{suffix}"
    write_audio(path, audio, sample_rate=44100, encoding="int16")
    for start, frames in [
        (0, None),
        (1, 1),
        (99_999, 4),
        (140_000, None),
        (149_999, 9),
        (10**9, 1),
    ]:
        stop = None if frames is None else start + frames
        part, _ = read_audio(path, start=start, frames=frames)
        np.testing.assert_array_equal(part, audio[:, start:stop])
    with pytest.raises(ConfigError, match="start and frames of 0 or more, got -1 and 2"):
        read_audio(path, start=-1, frames=2)
    with pytest.raises(ConfigError, match="start and frames of 0 or more, got 0 and -2"):
        read_audio(path, frames=-2)


@pytest.mark.parametrize("block_frames", [1, 999, 1024, 4096, 5000, 65536])
def test_blocks_have_the_length_asked_for(tmp_path: Path, block_frames: int) -> None:
    audio = grid_samples("int16", 2, 5000)
    write_audio(tmp_path / "x.flac", audio, sample_rate=44100, encoding="int16")
    with AudioReader(tmp_path / "x.flac") as reader:
        blocks = list(reader.blocks(block_frames))
        assert list(reader.blocks(block_frames)) == []
    assert all(block.shape == (2, block_frames) for block in blocks[:-1])
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), audio)


@pytest.mark.parametrize(
    "name",
    ["Ünï çødé 音楽.wav", " two  spaces .wav", "line\nbreak.wav", "UPPER.WAV", "a" * 246 + ".wav"],
)
def test_file_names(tmp_path: Path, name: str) -> None:
    audio = grid_samples("int16", 1, 100)
    write_audio(tmp_path / name, audio, sample_rate=8000, encoding="int16")
    np.testing.assert_array_equal(read_audio(tmp_path / name)[0], audio)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_file_name_that_is_not_unicode(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff\xfe.wav")
    audio = grid_samples("int16", 1, 100)
    write_audio(path, audio, sample_rate=8000, encoding="int16")
    np.testing.assert_array_equal(read_audio(path)[0], audio)
    path.write_bytes(b"")
    assert refused(path).isascii()


def test_the_content_counts_and_not_the_suffix(tmp_path: Path) -> None:
    audio = grid_samples("int16", 2, 100)
    write_audio(tmp_path / "x.flac", audio, sample_rate=8000, encoding="int16")
    for name in ("x.wav", "x.mp3", "x.m4a", "x.raw", "x"):
        (tmp_path / "x.flac").rename(tmp_path / name)
        np.testing.assert_array_equal(read_audio(tmp_path / name)[0], audio)
        (tmp_path / name).rename(tmp_path / "x.flac")


# What cannot be read


def test_missing_file(tmp_path: Path) -> None:
    assert refused(tmp_path / "x.wav").endswith("found no such file; check the path")
    (tmp_path / "file").write_bytes(b"x")
    assert "found no such file" in refused(tmp_path / "file" / "x.wav")


def test_folder_and_device(tmp_path: Path) -> None:
    (tmp_path / "x.wav").mkdir()
    assert refused(tmp_path / "x.wav").endswith("found a folder; check the path")
    assert refused(Path(os.devnull)).endswith("found no regular file; check the path")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "x.wav").touch()
    message = refused(tmp_path / "x.wav")
    assert message.endswith("found an empty file (0 bytes); copy or download it again")


def test_text_renamed_to_wav(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_text("this is not audio\n" * 100)
    assert (
        "expected audio, found data that begin with b'this is not audi' (ffmpeg: Invalid data "
        "found when processing input); copy or download it again, or export it anew"
    ) in refused(tmp_path / "x.wav")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read every file")
def test_no_permission(tmp_path: Path) -> None:
    write_audio(
        tmp_path / "x.wav", np.zeros((1, 9), np.float32), sample_rate=8000, encoding="int16"
    )
    (tmp_path / "x.wav").chmod(0)
    assert "found an error (Permission denied); check its permissions" in refused(
        tmp_path / "x.wav"
    )


def test_error_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.wav").write_bytes(b"RIFF")

    def failing(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("sfisep_core.audio.file_reader.io.FileIO", failing)
    assert "found an error (Input/output error); check its permissions" in refused(
        tmp_path / "x.wav"
    )


@pytest.mark.parametrize("sample_rate", [1, 3999, 384001, 768000])
def test_sample_rates_out_of_range(tmp_path: Path, sample_rate: int) -> None:
    path = encode(tmp_path / "x.wav", np.zeros((1, 9), np.float32), sample_rate, "PCM_16")
    assert (
        f"expected a sample rate of 4000 to 384000 Hz, found {sample_rate} Hz; resample the file"
    ) in refused(path)


@pytest.mark.parametrize(
    ("value", "word"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf"), (1e300, "inf")]
)
def test_non_finite_samples_are_located(tmp_path: Path, value: float, word: str) -> None:
    audio = np.zeros((3, 200_000))
    audio[1, 100_000] = value  # the first one in time, although a later one comes first in order
    audio[0, 100_001] = np.nan
    soundfile.write(tmp_path / "x.wav", audio.T, 8000, "DOUBLE")
    expected = re.escape(
        f"cannot read {str(tmp_path / 'x.wav')!r}: expected finite samples, found {word} at "
        "12.500 s in channel 2 of 3; repair that place, or export the file again"
    )
    with pytest.raises(AudioFileError, match=expected):
        read_audio(tmp_path / "x.wav")
    with pytest.raises(AudioFileError, match=expected):
        read_audio(tmp_path / "x.wav", start=99_000)
    assert read_info(tmp_path / "x.wav").frames == 200_000
    with AudioReader(tmp_path / "x.wav") as reader:
        blocks = reader.blocks(50_000)
        assert [next(blocks).shape, next(blocks).shape] == [(3, 50_000), (3, 50_000)]
        with pytest.raises(AudioFileError, match=expected):
            next(blocks)


# Damaged files: all that decodes is used, and the log says what is missing


def expect_warning(caplog: pytest.LogCaptureFixture, promised: int, decoded: int) -> None:
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.name == "sfisep_core.audio.file_reader"
    assert f"header announces {promised} frames, {decoded} could be" in record.getMessage()
    caplog.clear()


def expect_cut(caplog: pytest.LogCaptureFixture, frames: int) -> None:
    (record,) = caplog.records
    (reason,) = re.findall("is damaged: (.*); what can be", record.getMessage())
    told = f"{frames} could be decoded ({frames / 48000:.3f} s)"
    assert f"its header announces 96000 frames, {told}" in reason or (
        reason == f"its end is missing, behind {frames / 48000:.3f} s"  # an MP3 counts bytes
    )
    caplog.clear()


@pytest.mark.parametrize("block_frames", [100, 65536])
@pytest.mark.parametrize(
    ("name", "subtype"),
    [
        ("x.wav", "PCM_16"),
        ("x.flac", "PCM_16"),
        pytest.param("x.mp3", "MPEG_LAYER_III", marks=needs_mp3),
    ],
)
def test_truncated_file(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    subtype: str,
    block_frames: int,
) -> None:
    path = encode(tmp_path / name, music(), 48000, subtype)
    whole, _ = read_audio(path)
    assert caplog.records == []
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    cut, _ = read_audio(path)
    frames = cut.shape[1]
    assert 0.45 * 96000 < frames < 0.55 * 96000
    np.testing.assert_array_equal(cut, whole[:, :frames])
    expect_cut(caplog, frames)
    with AudioReader(path) as reader:
        blocks = list(reader.blocks(block_frames))
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), cut)
    expect_cut(caplog, frames)
    # Parts: within, across the cut, behind it.
    for start in (1000, frames - 10, frames + 10):
        part, _ = read_audio(path, start=start, frames=500)
        np.testing.assert_array_equal(part, cut[:, start : start + 500])
        if start > 1000:
            expect_cut(caplog, frames)
    assert caplog.records == []


def test_truncated_vorbis(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.ogg", music(), 48000, "VORBIS")
    whole, _ = read_audio(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 9 // 10])
    cut, _ = read_audio(path)
    assert cut.shape[1] > 48000
    # Another decoder reads what is not whole.
    np.testing.assert_allclose(cut, whole[:, : cut.shape[1]], atol=1e-6)


def test_header_is_all_there_is(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.flac", music(), 48000, "PCM_16")
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(
        AudioFileError,
        match=r"found data that begin with b'fLaC.*\(ffmpeg: no packet that is whole\)",
    ):
        read_audio(path)


def flac_with_length(path: Path, frames: int) -> None:
    """Overwrite the 36 bits of STREAMINFO that hold the number of samples."""
    content = bytearray(path.read_bytes())
    field = int.from_bytes(content[18:26], "big") >> 36 << 36 | frames
    content[18:26] = field.to_bytes(8, "big")
    path.write_bytes(content)


def test_flac_that_does_not_know_its_length(tmp_path: Path) -> None:
    audio = grid_samples("int16", 2, 70_001)
    path = tmp_path / "x.flac"
    write_audio(path, audio, sample_rate=44100, encoding="int16")
    flac_with_length(path, 0)
    assert read_info(path).frames == 70_001
    np.testing.assert_array_equal(read_audio(path)[0], audio)
    np.testing.assert_array_equal(read_audio(path, start=69_000)[0], audio[:, 69_000:])


@pytest.mark.parametrize("announced", [70_002, 500_000, 2**36 - 1])
def test_flac_that_announces_too_much(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, announced: int
) -> None:
    audio = grid_samples("int16", 2, 70_001)
    path = tmp_path / "x.flac"
    write_audio(path, audio, sample_rate=44100, encoding="int16")
    flac_with_length(path, announced)
    np.testing.assert_array_equal(read_audio(path)[0], audio)
    expect_warning(caplog, announced, 70_001)


@pytest.mark.parametrize(
    ("announced", "warns"),
    [(4 * 5001, True), (2**30, True), (0xFFFFFFFF, False), (0x7FFFFFFF - 36, False)],
)
def test_wav_that_announces_too_much(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, announced: int, warns: bool
) -> None:
    audio = grid_samples("int16", 2, 5000)
    path = tmp_path / "x.wav"
    write_audio(path, audio, sample_rate=44100, encoding="int16")
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 40, announced)
    path.write_bytes(content)
    np.testing.assert_array_equal(read_audio(path)[0], audio)
    assert read_info(path).frames == 5000
    # The two largest lengths are what programs write that do not know it yet: no damage.
    if warns:
        expect_warning(caplog, announced // 4, 5000)
    assert caplog.records == []


def test_wav_that_announces_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.wav"
    audio = grid_samples("int16", 2, 5000)
    write_audio(path, audio, sample_rate=44100, encoding="int16")
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 4, 36)
    struct.pack_into("<I", content, 40, 0)
    path.write_bytes(content)
    np.testing.assert_array_equal(read_audio(path)[0], audio)
    (message,) = caplog.messages
    assert "announces 0 frames and goes on with samples: 5000 frames are read" in message
    assert read_info(path).frames == 5000
    np.testing.assert_array_equal(read_audio(path, start=4000)[0], audio[:, 4000:])


@needs_mp3
def test_mp3_damaged_in_the_middle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = encode(tmp_path / "x.mp3", music(), 48000, "MPEG_LAYER_III")
    whole, _ = read_audio(path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(content)
    audio, _ = read_audio(path)
    # What is before and behind is untouched, and in its place. The decoder's memory, of two
    # packets of 1152 samples, spoils what comes next.
    np.testing.assert_array_equal(audio[:, :45_000], whole[:, :45_000])
    np.testing.assert_allclose(audio[:, 62_000:96_000], whole[:, 62_000:], atol=1e-6)
    assert 0 <= audio.shape[1] - 96_000 < 1152
    (message,) = caplog.messages
    assert re.search(r"0\.(\d+) s are lost, silence stands for them: 0\.\1 s at 0\.9\d+ s", message)


# Writing


def test_writer_in_blocks_equals_one_write(tmp_path: Path) -> None:
    audio = grid_samples("float32", 2, 20_000)
    write_audio(tmp_path / "one.wav", audio, sample_rate=44100, encoding="float32")
    writer = AudioWriter(tmp_path / "blocks.wav", sample_rate=44100, channels=2, encoding="float32")
    write_blocks(writer, *np.split(audio, [0, 1, 5000], axis=1))
    assert (tmp_path / "one.wav").read_bytes() == (tmp_path / "blocks.wav").read_bytes()


def test_encoders_get_short_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []
    write = soundfile.SoundFile.write

    def spy(self: soundfile.SoundFile, data: NDArray[np.float32]) -> None:
        lengths.append(len(data))
        write(self, data)

    monkeypatch.setattr(soundfile.SoundFile, "write", spy)
    audio = grid_samples("int16", 2, 10_000)
    write_audio(tmp_path / "x.wav", audio, sample_rate=44100, encoding="int16")
    assert lengths == [4096, 4096, 1808]


def test_equal_samples_are_equal_files(tmp_path: Path) -> None:
    # libsndfile puts the time of day into the PEAK chunk of float files.
    write_audio(
        tmp_path / "x.wav", np.ones((2, 9), np.float32), sample_rate=8000, encoding="float32"
    )
    content = (tmp_path / "x.wav").read_bytes()
    peak = content.index(b"PEAK")
    assert struct.unpack_from("<II", content, peak + 8) == (1, 0)  # version, time
    assert struct.unpack_from("<fI", content, peak + 16) == (1.0, 0)  # value, position


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_an_exception_leaves_nothing(
    tmp_path: Path, suffix: str, error: type[BaseException]
) -> None:
    path = tmp_path / f"x{suffix}"
    writer = AudioWriter(path, sample_rate=8000, channels=1, encoding="int16")
    assert list(tmp_path.iterdir()) == []

    def work() -> None:
        with writer:
            writer.write(np.zeros((1, 10_000), np.float32))
            (temporary,) = tmp_path.iterdir()
            assert re.fullmatch(rf"\.x\.[0-9a-f]{{16}}\.part\{suffix}", temporary.name)
            raise error

    with pytest.raises(error):
        work()
    assert list(tmp_path.iterdir()) == []


def test_an_exception_keeps_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    former = grid_samples("int16", 1, 100)
    write_audio(path, former, sample_rate=8000, encoding="int16")
    writer = AudioWriter(path, sample_rate=8000, channels=1, encoding="int16")
    with pytest.raises(AudioFileError, match="expected finite samples"):
        write_blocks(writer, np.zeros((1, 10), np.float32), np.full((1, 1), np.nan, np.float32))
    np.testing.assert_array_equal(read_audio(path)[0], former)
    write_audio(path, former[:, :50], sample_rate=8000, encoding="int16")
    np.testing.assert_array_equal(read_audio(path)[0], former[:, :50])
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    former = os.umask(0o027)
    try:
        write_audio(
            tmp_path / "x.wav", np.zeros((1, 9), np.float32), sample_rate=8000, encoding="int16"
        )
    finally:
        os.umask(former)
    assert (tmp_path / "x.wav").stat().st_mode & 0o777 == 0o640


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.wav").mkdir()
    for name, found in [
        ("missing/x.wav", "No such file or directory"),
        ("file/x.wav", "Not a directory"),
        ("folder.wav", "a folder of that name"),
    ]:
        path = tmp_path / name
        with pytest.raises(AudioFileError) as error:
            write_audio(path, np.zeros((1, 9), np.float32), sample_rate=8000, encoding="int16")
        assert str(error.value) == (
            f"cannot write {str(path)!r}: expected an existing, writable folder with free space, "
            f"found {found}; make the folder, free some space, or choose another place"
        )
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder.wav"}


@pytest.mark.parametrize(
    ("suffix", "limit"),
    # At the header, in the middle, and (FLAC) in the last block, where libsndfile reports nothing.
    [(".wav", 20), (".wav", 30_000), (".flac", 20), (".flac", 30_000), (".flac", 49_400)],
)
def test_full_disk(tmp_path: Path, suffix: str, limit: int) -> None:
    path = tmp_path / f"x{suffix}"
    audio = grid_samples("int16", 2, 3 * 4096 + 100)
    with (
        pytest.raises(AudioFileError, match=r"cannot write .*, found .*; .*free some space"),
        disk_of(limit),
    ):
        write_audio(path, audio, sample_rate=44100, encoding="int16")
    assert list(tmp_path.iterdir()) == []
    with disk_of(60_000):
        write_audio(path, audio, sample_rate=44100, encoding="int16")
    np.testing.assert_array_equal(read_audio(path)[0], audio)


def test_file_size_in_the_full_disk_test(tmp_path: Path) -> None:
    # 49 400 bytes cut the last of four FLAC blocks: the first three fit, the whole does not.
    audio = grid_samples("int16", 2, 3 * 4096 + 100)
    sizes = []
    for frames in (3 * 4096, 3 * 4096 + 100):
        write_audio(tmp_path / "x.flac", audio[:, :frames], sample_rate=44100, encoding="int16")
        sizes.append((tmp_path / "x.flac").stat().st_size)
    assert sizes[0] < 49_400 < sizes[1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_samples_are_not_written(tmp_path: Path, value: float) -> None:
    writer = AudioWriter(tmp_path / "x.wav", sample_rate=8000, channels=1, encoding="float32")
    bad = np.full((1, 5), value, dtype=np.float32)
    with pytest.raises(AudioFileError, match=r"samples, found NaN or Inf after 1\.125 s"):
        write_blocks(writer, np.zeros((1, 9000), dtype=np.float32), bad)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(9,), (9, 2), (1, 2, 9)])
def test_blocks_of_another_shape_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with (
        pytest.raises(ConfigError, match=r"expected a block of shape \(2, frames\), got \("),
        AudioWriter(tmp_path / "x.wav", sample_rate=8000, channels=2, encoding="int16") as writer,
    ):
        writer.write(np.zeros(shape, dtype=np.float32))


def test_wav_of_4_gib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file_writer._WAV_MAX_BYTES + 1024 < 2**32
    monkeypatch.setattr(file_writer, "_WAV_MAX_BYTES", 4000)
    audio = grid_samples("int16", 2, 1001)
    path = tmp_path / "x.wav"
    # The length is known: RF64, which readers take for WAV.
    write_audio(path, audio, sample_rate=8000, encoding="int16")
    assert path.read_bytes()[:4] == b"RF64"
    assert read_info(path) == AudioInfo(path, 8000, 2, 1001, "wav", "int16")
    np.testing.assert_array_equal(read_audio(path)[0], audio)
    write_audio(path, audio[:, :1000], sample_rate=8000, encoding="int16")
    assert path.read_bytes()[:4] == b"RIFF"
    path.unlink()
    # It is not known: an error instead of a file whose header has wrapped around.
    writer = AudioWriter(path, sample_rate=8000, channels=2, encoding="int16")
    with pytest.raises(
        AudioFileError, match=r"less than 4 GiB in WAV, found 1001 frames of 2 chan"
    ):
        write_blocks(writer, audio[:, :1000], audio[:, 1000:])
    assert list(tmp_path.iterdir()) == []


# Formats


@pytest.mark.parametrize(
    ("container", "encoding", "channels", "sample_rate"),
    [
        ("wav", "float32", 1024, 1),
        ("wav", "int16", 9, 655_351),
        ("flac", "int24", 8, 655_350),
        ("flac", "int16", 1, 65_535),
        ("flac", "int16", 1, 65_540),
    ],
)
def test_formats_at_their_limits_are_written(
    tmp_path: Path, container: str, encoding: Encoding, channels: int, sample_rate: int
) -> None:
    check_output_format(container, encoding, channels, sample_rate)
    path = tmp_path / f"x.{container}"
    audio = np.zeros((channels, 5), dtype=np.float32)
    write_audio(path, audio, sample_rate=sample_rate, encoding=encoding)
    header = soundfile.info(path)
    assert (header.samplerate, header.channels, header.frames) == (sample_rate, channels, 5)


@pytest.mark.parametrize(
    ("container", "encoding", "channels", "sample_rate", "message"),
    [
        ("m4a", "int16", 2, 44100, ".mp3, .ogg or .opus, got '.m4a'; write WAV and convert"),
        ("", "int16", 2, 44100, ".wav, .flac, .mp3, .ogg or .opus, got '.'; write WAV and convert"),
        ("mp3", "int16", 2, 44100, "no encoding with MP3, which has no sample format, got int16;"),
        ("wav", "int8", 2, 44100, "int16, int24 or float32, got 'int8'; choose one of them"),
        ("flac", "float32", 2, 44100, "int16 or int24 in FLAC, got float32; choose int24, or WAV"),
        ("flac", "int16", 9, 44100, "1 to 8 channels in FLAC, got 9; choose WAV"),
        ("wav", "int16", 0, 44100, "1 to 1024 channels in WAV, got 0; write"),
        ("wav", "int16", 1025, 44100, "1 to 1024 channels in WAV, got 1025; write fewer channels"),
        ("wav", "int16", 2, 0, "a sample rate of 1 Hz or more, got 0 Hz; correct it"),
        ("flac", "int16", 2, 65_537, "up to 655350 Hz, in FLAC, got 65537 Hz; choose WAV"),
        ("flac", "int16", 2, 655_360, "up to 655350 Hz, in FLAC, got 655360 Hz; choose WAV"),
    ],
)
def test_formats_that_do_not_exist_are_refused(
    tmp_path: Path,
    container: str,
    encoding: Encoding,
    channels: int,
    sample_rate: int,
    message: str,
) -> None:
    expected = re.escape("cannot write this audio format: expected ") + ".*" + re.escape(message)
    with pytest.raises(ConfigError, match=expected):
        check_output_format(container, encoding, channels, sample_rate)
    with pytest.raises(ConfigError, match=expected):
        AudioWriter(
            tmp_path / f"x.{container}",
            sample_rate=sample_rate,
            channels=channels,
            encoding=encoding,
        )


def test_finished_files_get_their_names_together(tmp_path: Path) -> None:
    paths = [tmp_path / "a.wav", tmp_path / "b.flac"]
    writers = []
    with contextlib.ExitStack() as stack:
        for path in paths:
            writer = stack.enter_context(
                AudioWriter(path, sample_rate=8000, channels=1, encoding="int16")
            )
            writer.write(np.zeros((1, 10), dtype=np.float32))
            writers.append(writer)
        assert not any(path.exists() for path in paths)
        complete(writers)
        assert all(path.exists() for path in paths)
    assert [read_info(path).frames for path in paths] == [10, 10]


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [
        (".ogg", "VORBIS"),
        (".opus", "OPUS"),
        (".flac", "PCM_16"),
        pytest.param(".mp3", "MPEG_LAYER_III", marks=needs_mp3),
    ],
)
def test_joined_files_are_read_to_the_end(
    suffix: str, subtype: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audio = music()
    one = encode(tmp_path / f"one{suffix}", audio, 48000, subtype)
    other = encode(tmp_path / f"other{suffix}", 0.5 * audio, 48000, subtype)
    assert read_audio(one)[0].shape[1] == 96000
    joined = tmp_path / f"joined{suffix}"
    joined.write_bytes(one.read_bytes() + other.read_bytes())
    read, _ = read_audio(joined)
    # Lossy codecs leave some of what their encoders added between the two.
    assert 0 <= read.shape[1] - 2 * 96000 < (1 if subtype == "PCM_16" else 4000)
    levels = [float(np.std(read[:, start : start + 80_000])) for start in (5000, 105_000)]
    assert levels[1] / levels[0] == pytest.approx(0.5, rel=0.01)
    assert caplog.messages == []


SAMPLE_CONTAINERS = [".wav", ".rf64", ".au", ".aiff", ".caf", ".w64"]


@pytest.mark.parametrize("suffix", SAMPLE_CONTAINERS)
def test_recordings_end_to_end_are_read_as_one(
    suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = encode(tmp_path / f"a{suffix}", music(), 48000, "PCM_16")
    second = encode(tmp_path / f"b{suffix}", 0.5 * music(10_007), 48000, "PCM_16")
    audio = np.concatenate([read_audio(path)[0] for path in (first, second, first)], axis=1)
    assert caplog.messages == []
    joined = tmp_path / f"joined{suffix}"
    joined.write_bytes(first.read_bytes() + second.read_bytes() + first.read_bytes())
    assert read_info(joined).frames == 96_000 + 10_007 + 96_000
    read, _ = read_audio(joined)
    np.testing.assert_array_equal(read, audio)
    (message,) = caplog.messages
    assert message.endswith(
        "holds 3 recordings end to end, the second from 2.000 s on: all of them are read"
    )
    for start in (5, 95_999, 96_000, 100_000, 106_007, 150_000, 202_006):
        with AudioReader(joined) as reader:
            reader.skip(7)
            reader.skip(start - 7) if start > 7 else None
            place = max(start, 7)
            np.testing.assert_array_equal(reader.read(20_000), audio[:, place : place + 20_000])


@pytest.mark.parametrize("suffix", [".wav", ".rf64", ".au", ".aiff", ".w64"])
def test_a_second_recording_that_is_cut(
    suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = encode(tmp_path / f"x{suffix}", music(), 48000, "PCM_16")
    one = path.read_bytes()
    path.write_bytes(one + one[:-48_000])
    read, _ = read_audio(path)
    frames = read.shape[1]
    assert 96_000 + 84_000 <= frames <= 96_000 + 84_100  # the headers count as well
    end_to_end, damage = caplog.messages
    assert "holds 2 recordings end to end" in end_to_end
    assert f"its header announces 192000 frames, {frames} could be decoded" in damage


def test_a_second_recording_that_cannot_be_opened_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = encode(tmp_path / "x.caf", music(), 48000, "PCM_16")
    one = path.read_bytes()
    path.write_bytes(one + one[:-48_000])
    assert read_audio(path)[0].shape[1] == 96_000
    (message,) = caplog.messages
    assert re.search(rf"after 2\.000 s .* {len(one) - 48_000} bytes follow that are not", message)


@pytest.mark.parametrize("suffix", SAMPLE_CONTAINERS)
@pytest.mark.parametrize(
    ("rate", "encoding", "named"),
    [
        (44_100, "PCM_16", "44100 Hz, 2 channels and int16"),
        (48_000, "PCM_24", "48000 Hz, 2.*int24"),
    ],
)
def test_a_second_recording_of_another_format_is_named(
    suffix: str,
    rate: int,
    encoding: str,
    named: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = encode(tmp_path / f"a{suffix}", music(), 48000, "PCM_16")
    second = encode(tmp_path / f"b{suffix}", music(), rate, encoding)
    audio, _ = read_audio(first)
    joined = tmp_path / f"joined{suffix}"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    np.testing.assert_array_equal(read_audio(joined)[0], audio)
    (message,) = caplog.messages
    size = second.stat().st_size
    assert re.search(
        rf"is followed, after 2\.000 s, by a recording of {named}.*: the {size} bytes from there "
        "are not read; split the file",
        message,
    )


@pytest.mark.parametrize("suffix", SAMPLE_CONTAINERS)
def test_what_is_behind_the_announced_samples_is_told(
    suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = encode(tmp_path / f"x{suffix}", music(), 48000, "PCM_16")
    path.write_bytes(path.read_bytes() + b"\1\2\3\4" * 25_000)
    read, _ = read_audio(path)
    assert read.shape[1] == 96000
    (message,) = caplog.messages
    assert re.search(r"ends after 2\.000 s by its header, and 100000 bytes follow", message)


@pytest.mark.parametrize("copies", [1, 2])
def test_a_second_chunk_of_samples_is_read(
    copies: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = encode(tmp_path / "x.wav", music(), 48000, "PCM_16")
    audio, _ = read_audio(path)
    more = np.round(audio[:, :30_000].T * 32_768).astype("<i2").tobytes()
    chunks = b"LIST" + struct.pack("<I", 4) + b"INFO" + b"data" + struct.pack("<I", len(more))
    path.write_bytes((path.read_bytes() + chunks + more) * copies)
    read, _ = read_audio(path)
    expected = np.concatenate([audio, audio[:, :30_000]] * copies, axis=1)
    np.testing.assert_array_equal(read, expected)
    assert read_info(path).frames == 126_000 * copies
    assert len(caplog.messages) == copies - 1


@pytest.mark.slow
@needs_mp3
@pytest.mark.parametrize("tag", [b"TAG" + bytes(125), b"APETAGEX" + bytes(9000)])
def test_tags_are_no_recording(
    tag: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = encode(tmp_path / "tagged.mp3", music(480_000), 48000, "MPEG_LAYER_III")
    path.write_bytes(path.read_bytes() + tag)
    assert read_audio(path)[0].shape[1] == 480_000
    assert caplog.messages == []


def test_flac_whose_header_announces_too_little(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = encode(tmp_path / "half.flac", music(), 48000, "PCM_16")
    content = bytearray(path.read_bytes())
    packed = int.from_bytes(content[18:26], "big") - 96000 // 2  # 36 bits of total samples
    content[18:26] = packed.to_bytes(8, "big")
    path.write_bytes(content)
    assert read_audio(path)[0].shape[1] == 96000
    assert caplog.messages == []


@pytest.mark.parametrize("length", [2**48, 2**62, 2**63 - 1])
@pytest.mark.parametrize(
    ("suffix", "mark", "place", "order"), [("caf", b"desc", 4, ">q"), ("w64", b"fmt ", 16, "<q")]
)
def test_chunk_longer_than_file_systems_allow(
    tmp_path: Path,
    suffix: str,
    mark: bytes,
    place: int,
    order: str,
    length: int,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, np.full((5000, 2), 0.25), 48_000, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    struct.pack_into(order, content, content.find(mark) + place, length)
    path.write_bytes(content)
    with pytest.raises(AudioFileError, match="expected audio, found data that begin with"):
        read_audio(path)
    assert capfd.readouterr() == ("", "")


def test_flac_without_a_rate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    noise = 0.1 * np.random.default_rng(0).standard_normal((9000, 2))
    soundfile.write(path, noise, 48_000, subtype="PCM_16")
    # Without its mark the file has no header, and there is not one whole frame that tells the rate.
    path.write_bytes(b"fLa\0" + path.read_bytes()[4:1000])
    with pytest.raises(AudioFileError, match="ffmpeg: no rate or number of channels"):
        read_audio(path)
