import errno
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sfisep_core.audio import ffmpeg
from sfisep_core.audio.files import AudioReader, read_audio, read_info
from sfisep_core.errors import AudioFileError

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
posix = pytest.mark.skipif(os.name != "posix", reason="a shell script stands in for ffmpeg")


def generate(path: Path, *options: str, source: str = "sine=f=440:r=44100:d=2") -> Path:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-f", "lavfi", "-i", source]
    subprocess.run([*command, *options, f"file:{path}"], check=True)
    return path


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program named ffmpeg before all others."""
    program = folder / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def refused(path: Path) -> str:
    with pytest.raises(AudioFileError) as error:
        read_audio(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"cannot read {str(path)!r}: expected ")
    return str(error.value)


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "options", "container", "codec"),
    [
        ("x.m4a", ["-c:a", "aac", "-b:a", "192k"], "m4a", "aac"),
        ("x.m4a", ["-c:a", "alac"], "m4a", "alac"),
        ("x.aac", ["-c:a", "aac", "-b:a", "192k"], "aac", "aac"),
        ("x.mka", ["-c:a", "pcm_f32le"], "matroska", "pcm_f32le"),
        ("Ünï çødé 音楽.m4a", ["-c:a", "alac"], "m4a", "alac"),
        (" two  spaces .m4a", ["-c:a", "alac"], "m4a", "alac"),
        ("line\nbreak.m4a", ["-c:a", "alac"], "m4a", "alac"),
        ("100%d.m4a", ["-c:a", "alac"], "m4a", "alac"),
        ("wrong suffix.wav", ["-c:a", "alac", "-f", "mp4"], "mov", "alac"),
    ],
)
def test_formats(tmp_path: Path, name: str, options: list[str], container: str, codec: str) -> None:
    path = generate(tmp_path / name, *options)
    audio, rate = read_audio(path)
    info = read_info(path)
    assert (rate, info.sample_rate, info.channels) == (44100, 44100, 1)
    assert (info.container, info.encoding, info.path) == (container, codec, path)
    assert info.frames == audio.shape[1]
    # AAC comes in whole packets of 1024; a bare stream also keeps what the encoder put before.
    assert 88200 <= info.frames <= 88200 + 2048 + 1024
    if codec != "aac":
        assert info.frames == 88200
    if path.suffix != ".aac":
        tone = np.sin(2 * np.pi * 440 * np.arange(88200) / 44100) / 8
        error = audio[0, :88200] - tone
        snr = 10 * np.log10(np.mean(tone**2) / np.mean(error[2000:-2000] ** 2))
        assert snr > (40 if codec == "aac" else 60)


@needs_ffmpeg
@pytest.mark.parametrize("name", ["-x.m4a", "http:x.m4a", "concat:a|b.m4a", "pipe:0", "-"])
def test_names_that_look_like_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    generate(tmp_path / "plain.m4a", "-c:a", "alac").rename(tmp_path / name)
    assert read_audio(Path(name))[0].shape == (1, 88200)


@needs_ffmpeg
def test_parts_of_a_file(tmp_path: Path) -> None:
    path = generate(tmp_path / "x.m4a", "-c:a", "aac")
    whole, _ = read_audio(path)
    for start, frames in [(0, 1), (12345, 500), (80_000, 70_000), (10**6, 9)]:
        part, _ = read_audio(path, start=start, frames=frames)
        np.testing.assert_array_equal(part, whole[:, start : start + frames])
    with AudioReader(path) as reader:
        np.testing.assert_array_equal(np.concatenate(list(reader.blocks(999)), axis=1), whole)


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "codec"), [("x.m4a", "aac"), ("x.ogg", "libvorbis"), ("x.opus", "libopus")]
)
@pytest.mark.parametrize("layout", ["3.0", "4.0", "5.0", "5.1", "6.1", "7.1"])
def test_surround_sound_has_the_order_of_wav(
    tmp_path: Path, name: str, codec: str, layout: str
) -> None:
    if (codec, layout) in [("libvorbis", "4.0"), ("libopus", "4.0"), ("aac", "6.1")]:
        pytest.skip("ffmpeg has no such encoder")
    if (codec, layout) in [("libopus", "5.0"), ("libopus", "6.1")]:
        pytest.skip("ffmpeg mixes up the channels: it does not read back its own files either")
    channels = sum(map(int, layout.split(".")))
    tones = (300, 500, 700, 60 if layout[-1] == "1" else 800, 900, 1100, 1300, 1500)[:channels]
    expressions = "|".join(f"0.1*sin(2*PI*{tone}*t)" for tone in tones)
    source = f"aevalsrc={expressions}:c={layout}:s=48000:d=1"
    audio, _ = read_audio(generate(tmp_path / name, "-c:a", codec, source=source))
    assert audio.shape[0] == channels
    assert tuple(np.argmax(np.abs(np.fft.rfft(audio[:, :48000])), axis=1)) == tones


@needs_ffmpeg
def test_first_audio_track_of_a_video(tmp_path: Path) -> None:
    inputs = ["-f", "lavfi", "-i", "sine=f=440:d=1:r=48000"]
    inputs += ["-f", "lavfi", "-i", "sine=f=1000:d=1:r=32000"]
    maps = ["-map", "0:v", "-map", "1:a", "-map", "2:a", "-c:v", "mpeg4", "-c:a", "alac"]
    path = generate(tmp_path / "x.mp4", *inputs, *maps, source="testsrc=d=1")
    audio, rate = read_audio(path)
    assert (audio.shape, rate) == ((1, 48000), 48000)
    assert np.argmax(np.abs(np.fft.rfft(audio[0]))) == 440
    assert read_info(path).container == "mp4"


@needs_ffmpeg
def test_webm(tmp_path: Path) -> None:
    path = generate(tmp_path / "x.webm", "-c:a", "libopus", "-b:a", "128k")
    info = read_info(path)
    assert (info.container, info.encoding, info.sample_rate) == ("webm", "opus", 48000)
    audio, _ = read_audio(path)
    assert audio.shape == (1, 96000)
    assert np.argmax(np.abs(np.fft.rfft(audio[0]))) == 880


@needs_ffmpeg
def test_video_without_sound(tmp_path: Path) -> None:
    path = generate(tmp_path / "x.mp4", "-c:v", "mpeg4", source="testsrc=d=0.2")
    assert "found no audio track that ffmpeg can decode: " in refused(path)


@needs_ffmpeg
@pytest.mark.parametrize("name", ["x.m4a", "x.wav", "x.mp4", "x.aac"])
def test_text(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("this is not audio\n" * 100)
    message = refused(tmp_path / name)
    if name == "x.wav":
        assert "found data that begin with b'this is not audi'" in message
    else:
        assert "found data that ffmpeg cannot decode: " in message


@needs_ffmpeg
def test_truncated_m4a(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = generate(tmp_path / "x.m4a", "-c:a", "aac", "-movflags", "+faststart")
    whole, _ = read_audio(path)
    assert caplog.records == []
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    cut, _ = read_audio(path)
    frames = cut.shape[1]
    assert 0.3 * 88200 < frames < 0.6 * 88200
    np.testing.assert_array_equal(cut[:, : frames - 1024], whole[:, : frames - 1024])
    (record,) = caplog.records
    assert (record.levelno, record.name) == (logging.WARNING, "sfisep_core.audio.file_reader")
    assert "is damaged: ffmpeg says " in record.getMessage()
    assert f"{frames} frames could be decoded" in record.getMessage()
    # The index at the end is lost: nothing can be decoded.
    path = generate(tmp_path / "y.m4a", "-c:a", "aac")
    path.write_bytes(path.read_bytes()[:9000])
    message = refused(path)
    assert "'moov atom not found; " in message
    assert "Invalid data found when processing input'" in message


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".wav"])
@pytest.mark.parametrize(
    "script",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"'
        ' profiles="x"><Period><AdaptationSet><Representation id="1"><BaseURL>{}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>",
    ],
)
def test_playlists_open_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, script: str
) -> None:
    generate(tmp_path / "secret.m4a", "-c:a", "aac")
    path = tmp_path / f"x{suffix}"
    path.write_text(script.format("secret.m4a"))
    refused(path)
    if script.startswith("ffconcat"):  # which does work where it is allowed
        monkeypatch.setattr(ffmpeg, "_DEMUXERS", "concat,mov")
        assert read_info(path).frames > 88000


@needs_ffmpeg
def test_the_temporary_file_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = generate(tmp_path / "x.m4a", "-c:a", "aac")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    assert "space for its decoded samples, found No such file or directory in" in refused(path)
    (tmp_path / "tmp").mkdir()
    with AudioReader(path):
        if sys.platform == "linux":
            assert list((tmp_path / "tmp").iterdir()) == []
    assert list((tmp_path / "tmp").iterdir()) == []


@needs_ffmpeg
def test_no_space_for_the_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = generate(tmp_path / "x.m4a", "-c:a", "aac")
    resource = pytest.importorskip("resource", reason="file size limits are POSIX")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        message = refused(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert message.endswith(
        f"expected space for its decoded samples, found {os.strerror(errno.EFBIG)} in the "
        f"temporary folder {str(tmp_path)!r}; free some space, or set TMPDIR to a folder that has "
        "more"
    )
    assert list(tmp_path.iterdir()) == [path]


# A program that stands in for ffmpeg


@pytest.fixture
def m4a(tmp_path: Path) -> Path:
    path = tmp_path / "x.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(1000))
    return path


@posix
def test_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, m4a: Path) -> None:
    stand_in(tmp_path, monkeypatch, f'printf "%s\\n" "$@" > {tmp_path}/arguments; exit 1')
    refused(m4a)
    arguments = (tmp_path / "arguments").read_text().splitlines()
    source = arguments.index("-i")
    assert arguments[source + 1] == f"file:{m4a}"
    assert arguments[arguments.index("-protocol_whitelist", 0, source) + 1] == "file"
    demuxers = arguments[arguments.index("-format_whitelist", 0, source) + 1].split(",")
    for name in ("hls", "concat", "dash", "sdp", "image2", "imf", "lavfi", "tty", "vapoursynth"):
        assert name not in demuxers
    assert "-nostdin" in arguments


@posix
def test_last_messages_are_shown_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, m4a: Path
) -> None:
    script = (
        "i=0; while [ $i -lt 20000 ]; do echo '[error] one of many messages' >&2; i=$((i+1)); done;"
        "echo '[mov,mp4 @ 0x55] [error] first \\033[31m' >&2;"
        "head -c 1000000 /dev/zero >&2; echo >&2;"
        f"echo '[fatal] file:{m4a}: {'x' * 500}' >&2; exit 7"
    )
    stand_in(tmp_path, monkeypatch, script)
    message = refused(m4a)
    assert f"found data that ffmpeg cannot decode: 'first \\x1b[31m; {'x' * 160}'; copy" in message


@posix
def test_failure_after_some_samples(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    m4a: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    samples = np.array([[0.25, -0.5, 0.75]], dtype=np.float32)
    soundfile.write(tmp_path / "x.au", samples.T, 8000, "FLOAT")
    script = (
        "echo \"[info] Input #0, mov,mp4,m4a, from 'x':\" >&2;"
        "echo '[info]   Stream #0:1 -> #0:0 (aac (native) -> pcm_f32be (native))' >&2;"
        f"cat {tmp_path}/x.au; kill -9 $$"
    )
    stand_in(tmp_path, monkeypatch, script)
    audio, rate = read_audio(m4a)
    np.testing.assert_array_equal(audio, samples)
    assert rate == 8000
    (record,) = caplog.records
    assert "ffmpeg says 'nothing, but it failed', 3 frames could be decoded" in record.getMessage()
    soundfile.write(tmp_path / "x.au", samples.T[:0], 8000, "FLOAT")
    assert "found data that ffmpeg cannot decode: ''" in refused(m4a)


@posix
def test_program_that_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, m4a: Path
) -> None:
    stand_in(tmp_path, monkeypatch, "")
    (tmp_path / "bin" / "ffmpeg").write_bytes(b"\x7fELF")
    assert "that does not start (Exec format error); install it anew" in refused(m4a)


@posix
def test_ctrl_c_ends_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, m4a: Path) -> None:
    stand_in(tmp_path, monkeypatch, f"echo $$ > {tmp_path}/pid; echo samples; exec sleep 600")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # In the middle of the samples, and not by a signal, which may come at any other place.
    monkeypatch.setattr(ffmpeg, "_write_all", interrupt)
    monkeypatch.setattr(ffmpeg, "_COPY_BYTES", 8)
    with pytest.raises(KeyboardInterrupt):
        read_audio(m4a)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@needs_ffmpeg
@pytest.mark.skipif(sys.platform != "linux", reason="reads peak memory as Linux has it")
def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    path = tmp_path / "x.m4a"
    generate(path, "-c:a", "alac", source="anullsrc=r=48000:cl=stereo:d=600")
    code = (
        "import resource, sys; from pathlib import Path; from sfisep_core.audio import ffmpeg\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"decoding = ffmpeg.decode(ffmpeg.find_ffmpeg(), Path({str(path)!r}))\n"
        "assert decoding.samples.seek(0, 2) > 2 * 4 * 48000 * 600\n"
        "sys.exit(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > 20_000)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert ffmpeg.find_ffmpeg() is not None
