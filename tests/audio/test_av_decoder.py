import io
import logging
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from sfisep_core.audio import av_source
from sfisep_core.audio.av_decoder import AvDecoder
from sfisep_core.audio.files import AudioReader, AudioWriter, read_audio, read_info, write_audio
from sfisep_core.audio.mending import ogg_checksum
from sfisep_core.errors import AudioFileError

pytestmark = pytest.mark.slow

needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="the program ffmpeg, which makes the file, is missing"
)


def generate(path: Path, *options: str, source: str = "sine=f=440:r=44100:d=2") -> Path:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-f", "lavfi", "-i", source]
    subprocess.run([*command, *options, f"file:{path}"], check=True)
    return path


def music(frames: int = 96_000, channels: int = 2, seed: int = 0) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).standard_normal((channels, frames), dtype=np.float32)
    tone = np.sin(2 * np.pi * 440 * np.arange(frames) / 48_000).astype(np.float32)
    return np.float32(0.3) * tone + np.float32(0.01) * noise


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
    assert refused(path).endswith(
        "expected an audio track that can be decoded, found a file of the format mov with these "
        "tracks: video; use a file with sound"
    )


@pytest.mark.parametrize("name", ["x.m4a", "x.wav", "x.mp4", "x.aac", "x.mp3"])
def test_text(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("this is not audio\n" * 100)
    assert "found data that begin with b'this is not audi' (ffmpeg: " in refused(tmp_path / name)


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
    assert "is damaged: " in record.getMessage()
    assert f"header announces 88200 frames, {frames} could be decoded" in record.getMessage()
    # The index at the end is lost: nothing can be decoded.
    path = generate(tmp_path / "y.m4a", "-c:a", "aac")
    path.write_bytes(path.read_bytes()[:9000])
    assert "(ffmpeg: Invalid data found when processing input)" in refused(path)


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
        monkeypatch.setattr(av_source, "_DEMUXERS", "concat,mov")
        refused(path)  # no protocol to open it with


@needs_ffmpeg
@pytest.mark.skipif(sys.platform != "linux", reason="reads peak memory as Linux has it")
def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    path = tmp_path / "x.m4a"
    generate(path, "-c:a", "alac", source="anullsrc=r=48000:cl=stereo:d=600")
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from sfisep_core.audio.files import AudioReader\n"
        f"reader = AudioReader(Path({str(path)!r}))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert reader.info.frames == 600 * 48000\n"
        "sys.exit(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > 20_000)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_av_is_imported_only_where_it_is_needed(tmp_path: Path) -> None:
    write_audio(tmp_path / "x.wav", music(), sample_rate=48_000)
    write_audio(tmp_path / "x.opus", music(), sample_rate=48_000)
    code = (
        "import sys; from pathlib import Path; from sfisep_core.audio.files import read_audio\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "read_audio(folder / 'x.wav'); assert 'av' not in sys.modules\n"
        "read_audio(folder / 'x.opus'); assert 'av' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_decoder_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_audio(tmp_path / "x.opus", music(), sample_rate=48_000)
    monkeypatch.setitem(sys.modules, "av", None)
    for name in ("av_decoder", "av_frames", "av_source"):
        monkeypatch.delitem(sys.modules, f"sfisep_core.audio.{name}")
    message = refused(tmp_path / "x.opus")
    assert "found a package av that cannot be imported (" in message
    assert message.endswith("install it anew: pip install --force-reinstall av")


# Opus


def opus_with_overlapping_pages(path: Path, overlap: int) -> None:
    """Let every fourth page end so many samples earlier than its packets do.

    Encoders that are fed with time stamps write such files.
    """
    content = bytearray(path.read_bytes())
    start = number = 0
    while start < len(content):
        header = 27 + content[start + 26]
        length = header + sum(content[start + 27 : start + header])
        if number >= 2 and number % 4 == 0 and start + length < len(content):
            granule = int.from_bytes(content[start + 6 : start + 14], "little") - overlap
            content[start + 6 : start + 14] = granule.to_bytes(8, "little")
            content[start + 22 : start + 26] = bytes(4)
            checksum = ogg_checksum(content[start : start + length])
            content[start + 22 : start + 26] = checksum
        start += length
        number += 1
    path.write_bytes(content)


def test_opus_whose_pages_overlap_is_read_to_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.opus"
    write_audio(path, music(480_000), sample_rate=48_000)
    whole, _ = read_audio(path)
    opus_with_overlapping_pages(path, 488)
    # The fault: libsndfile takes the page for malformed.
    with pytest.raises(soundfile.LibsndfileError, match="malformed"):
        soundfile.read(path)
    audio, rate = read_audio(path)
    assert rate == 48_000
    np.testing.assert_array_equal(audio, whole)
    assert read_info(path).frames == 480_000
    assert caplog.messages == []


@pytest.mark.parametrize("announced", [0, 8000, 44_100])
def test_opus_has_48_khz_whatever_its_header_says(tmp_path: Path, announced: int) -> None:
    path = tmp_path / "x.opus"
    write_audio(path, music(), sample_rate=48_000)
    whole, _ = read_audio(path)
    content = bytearray(path.read_bytes())
    place, end = content.find(b"OpusHead"), content.find(b"OggS", 4)
    struct.pack_into("<I", content, place + 12, announced)
    content[22:26] = bytes(4)
    content[22:26] = ogg_checksum(content[:end])
    path.write_bytes(content)
    audio, rate = read_audio(path)
    assert rate == 48_000
    np.testing.assert_array_equal(audio, whole)


# Faults: decoding goes on behind them, in time


def spoil(path: Path, start: int, count: int) -> None:
    content = bytearray(path.read_bytes())
    content[start : start + count] = np.random.default_rng(1).bytes(count)
    path.write_bytes(content)


@pytest.mark.parametrize("seed", range(8))
def test_one_wrong_bit_costs_its_block_of_flac(
    tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.flac"
    whole = np.round(music(200_000) * 32768) / np.float32(32768)
    write_audio(path, whole, sample_rate=44_100, encoding="int16")
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    content[rng.integers(100, len(content) - 20_000)] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)
    audio, _ = read_audio(path)
    assert audio.shape == whole.shape
    wrong = np.flatnonzero((audio != whole).any(axis=0))
    blocks = len(set(wrong // 4096))
    # A fault in the header of a block may cost the next one too.
    assert blocks <= 2
    assert np.all(audio[:, wrong] == 0)
    (message,) = caplog.messages
    seconds, start = blocks * 4096 / 44_100, wrong[0] // 4096 * 4096 / 44_100
    assert (
        f"{seconds:.3f} s are lost, silence stands for them: {seconds:.3f} s at {start:.3f} s"
        in (message)
    )


@pytest.mark.parametrize("suffix", [".opus", ".ogg"])
def test_a_lost_page_of_ogg_is_silent(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"x{suffix}"
    noise = np.random.default_rng(0).standard_normal((1, 480_000)).astype(np.float32) / 10
    write_audio(path, noise, sample_rate=48_000)
    whole, _ = read_audio(path)
    spoil(path, path.stat().st_size // 2, 500)
    audio, _ = read_audio(path)
    assert audio.shape == whole.shape
    lost = np.flatnonzero((audio == 0).all(axis=0))
    assert 2000 < len(lost) < 150_000
    assert lost[-1] - lost[0] + 1 == len(lost)
    assert np.abs(audio[:, : lost[0] - 2048] - whole[:, : lost[0] - 2048]).max() < 1e-4
    # What follows is where it was: to the sample in Opus, to half a block in Vorbis, whose packets
    # do not tell their time.
    part = whole[0, 400_000:410_000]
    lag = int(np.argmax(np.correlate(audio[0, 398_000:412_000], part, "valid"))) - 2000
    assert abs(lag) <= (0 if suffix == ".opus" else 1024)
    assert f"{len(lost) / 48_000:.3f} s are lost, silence stands for them" in caplog.messages[0]


def test_bytes_between_packets_of_an_mp3_take_no_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.mp3"
    write_audio(path, music(480_000), sample_rate=48_000)
    whole, _ = read_audio(path)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(5000) + content[middle:])
    audio, _ = read_audio(path)
    assert 0 <= audio.shape[1] - whole.shape[1] <= 1152
    np.testing.assert_allclose(audio[:, 250_000:480_000], whole[:, 250_000:], atol=1e-6)
    (message,) = caplog.messages
    assert "0.024 s are lost, silence stands for them: 0.024 s at " in message


def test_a_file_of_faults_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.opus"
    write_audio(path, music(), sample_rate=48_000)
    content = path.read_bytes()
    pages = [i for i in range(len(content)) if content.startswith(b"OggS", i)]
    spoil(path, pages[2], len(content) - pages[2])  # behind the two pages of headers
    assert "(ffmpeg: " in refused(path)


# Lengths


def strip_xing(content: bytes) -> bytes:
    """Leave out the first packet of an MP3, which holds the tag and no music."""
    return content[content.find(content[:2], 200) :]


def test_mp3_without_a_tag_has_its_length_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.mp3"
    for subtype, mode in (("MPEG_LAYER_III", "CONSTANT"), ("MPEG_LAYER_III", "VARIABLE")):
        with soundfile.SoundFile(
            path, "w", 48_000, 2, subtype, format="MP3", bitrate_mode=mode
        ) as file:
            # Quiet at first: what a reader estimates from the first packets is far off.
            signal = music(480_000)
            signal[:, :48_000] = 0
            file.write(signal.T)
        path.write_bytes(strip_xing(path.read_bytes()))
        info = read_info(path)
        audio, _ = read_audio(path)
        assert info.frames == audio.shape[1]
        # Packets of 1152 samples, with what the encoder put before and behind.
        assert 480_000 <= info.frames <= 480_000 + 4 * 1152
        assert info.frames % 1152 == 0
        assert caplog.messages == []


@pytest.mark.parametrize("packets", [0, 10, 10**6])
def test_tag_of_an_mp3_that_counts_wrong(
    tmp_path: Path, packets: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.mp3"
    write_audio(path, music(480_000), sample_rate=48_000)
    content = bytearray(path.read_bytes())
    place = max(content.find(b"Xing"), content.find(b"Info"))
    struct.pack_into(">I", content, place + 8, packets)
    path.write_bytes(content)
    audio, _ = read_audio(path)
    assert 0 <= audio.shape[1] - 480_000 < 2 * 1152
    assert read_info(path).frames == audio.shape[1]
    assert caplog.messages == []


@pytest.mark.parametrize("suffix", [".ogg", ".opus"])
def test_ogg_without_its_end(tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / f"x{suffix}"
    write_audio(path, music(480_000), sample_rate=48_000)
    whole, _ = read_audio(path)
    content = path.read_bytes()
    path.write_bytes(content[: content.rfind(b"OggS")])  # between two pages: nothing is broken
    audio, _ = read_audio(path)
    assert 240_000 < audio.shape[1] < 480_000
    assert np.abs(audio[:, :240_000] - whole[:, :240_000]).max() < 1e-5
    (message,) = caplog.messages
    assert f"its end is missing, behind {audio.shape[1] / 48_000:.3f} s" in message


@pytest.mark.parametrize("announced", [1_000_000, 0])
def test_wav_whose_length_has_wrapped_or_was_never_written(
    tmp_path: Path, announced: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.wav"
    frames = (2**32 + announced) // 8
    with AudioWriter(path, sample_rate=384_000, channels=2, encoding="float32") as writer:
        writer.write(music(5000))
    with path.open("r+b") as file:
        start = file.read(200).find(b"data") + 8
        file.seek(start - 4)
        file.write(struct.pack("<I", announced))
        file.truncate(start + 8 * frames)  # a hole: the disk holds none of it
        file.seek(start + 8 * (frames - 5000))
        file.write(music(5000, seed=1).T.tobytes())
    if path.stat().st_blocks * 512 > 1e8:
        pytest.fail("the file has no hole")
    with AudioReader(path) as reader:
        np.testing.assert_array_equal(reader.read(5000), music(5000))
    with path.open("rb") as raw:
        decoder = AvDecoder(path, io.FileIO(raw.fileno(), closefd=False), reader._sizes)
        assert decoder.remarks == [
            f"announces {announced // 8} frames and goes on with samples: {frames} frames are read"
        ]
    assert caplog.messages == []


# Tracks, channels, changes within


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_default_track_is_read_and_named(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    inputs = ["-f", "lavfi", "-i", "sine=f=1000:d=1:r=32000"]
    maps = ["-map", "0:a", "-map", "1:a", "-c:a", "aac", "-disposition:a:0", "0"]
    maps += ["-disposition:a:1", "default", "-metadata:s:a:1", "language=deu"]
    path = generate(tmp_path / f"x.{suffix}", *inputs, *maps)
    audio, rate = read_audio(path)
    assert rate == 32_000
    assert np.argmax(np.abs(np.fft.rfft(audio[0, :32_000]))) == 1000
    (message,) = caplog.messages
    assert message == f"{str(path)!r} has 2 audio tracks: number 2 (deu) is used"


@pytest.mark.parametrize("mask", [0x3F, 0x60F, 0x107])
def test_places_of_loudspeakers_are_kept(tmp_path: Path, mask: int) -> None:
    channels = mask.bit_count()
    path = tmp_path / "x.wav"
    with AudioWriter(path, sample_rate=48_000, channels=channels, channel_mask=mask) as writer:
        writer.write(music(5000, channels))
    assert read_info(path).channel_mask == mask
    with path.open("rb") as raw:
        decoder = AvDecoder(path, io.FileIO(raw.fileno(), closefd=False))
        assert decoder.channel_mask == mask
        with decoder:
            np.testing.assert_array_equal(decoder.read(6000), read_audio(path)[0])


@needs_ffmpeg
def test_voc_of_several_blocks(tmp_path: Path) -> None:
    path = generate(tmp_path / "x.voc", "-c:a", "pcm_s16le")
    content = path.read_bytes()
    body = content[26:-1]  # blocks, and the mark of the end
    path.write_bytes(content[:26] + body + body + content[-1:])
    audio, _ = read_audio(path)
    assert audio.shape[1] == 2 * 88_200
    np.testing.assert_array_equal(audio[:, :88_200], audio[:, 88_200:])


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (48_000, 1)])
def test_time_goes_on_where_an_mp3_changes(
    tmp_path: Path, rate: int, channels: int, caplog: pytest.LogCaptureFixture
) -> None:
    write_audio(tmp_path / "one.mp3", music(480_000), sample_rate=48_000)
    write_audio(tmp_path / "two.mp3", music(10 * rate, channels), sample_rate=rate)
    parts = [strip_xing((tmp_path / name).read_bytes()) for name in ("one.mp3", "two.mp3")]
    path = tmp_path / "x.mp3"
    path.write_bytes(b"".join(parts))
    audio, first = read_audio(path)
    assert (first, audio.shape[0]) == (48_000, 2)
    assert audio.shape[1] == pytest.approx(960_000, abs=8000)
    (message,) = caplog.messages
    assert f"from 48000 Hz and 2 channels to {rate} Hz and {channels} channels" in message
    assert "damaged" not in message


def test_libraries_write_nothing_themselves(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for suffix in ("mp3", "ogg", "opus", "flac"):
        path = tmp_path / f"x.{suffix}"
        write_audio(path, music(), sample_rate=48_000)
        spoil(path, path.stat().st_size // 2, 900)
        read_audio(path)
        path.write_bytes(path.read_bytes()[:-1000])
        read_audio(path)
    assert capfd.readouterr() == ("", "")
