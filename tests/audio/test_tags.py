"""Tags are made and read back with mutagen's own classes and with ffprobe."""

import base64
import json
import logging
import resource
import shutil
import subprocess
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from mutagen import File, id3
from mutagen.flac import FLAC
from mutagen.flac import Picture as FlacPicture
from mutagen.mp4 import MP4, MP4Cover
from mutagen.wave import WAVE

from sfisep_core.audio import tag_reader
from sfisep_core.audio.file_writer import AudioWriter
from sfisep_core.audio.files import read_audio, read_info, write_audio
from sfisep_core.audio.formats import Encoding
from sfisep_core.audio.tag_reader import read_tags
from sfisep_core.audio.tags import NO_TAGS, Picture, Tags
from sfisep_core.separation.plan import expected_seconds

RATE = 48000
SAMPLES = np.random.default_rng(0).uniform(-0.1, 0.1, (2, 9600)).astype(np.float32)
# The smallest PNG: one grey pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
TEXTS = {
    "title": ("Ärger",),
    "artist": ("One", "Two"),
    "albumartist": ("Both",),
    "album": ("The Discs",),
    "date": ("2026-03-01",),
    "genre": ("Rock",),
    "composer": ("Three",),
    "copyright": ("CC0",),
    "bpm": ("120",),
    "initialkey": ("Am",),
    "tracknumber": ("3/12",),
    "discnumber": ("2/2",),
}
TAGS = Tags(TEXTS, Picture(PNG))
MADE_BY = "sfisep 1, model x, sha256 abc"
FORMATS = ("wav", "flac", "mp3", "ogg", "opus")


def frames() -> list[Any]:
    """The tags as frames of ID3, with a back cover before the front."""
    texts = [
        id3.TIT2(text="Ärger"),
        id3.TPE1(text=["One", "Two"]),
        id3.TPE2(text="Both"),
        id3.TALB(text="The Discs"),
        id3.TDRC(text="2026-03-01"),
        id3.TCON(text="(17)"),
        id3.TCOM(text="Three"),
        id3.TCOP(text="CC0"),
        id3.TBPM(text="120"),
        id3.TKEY(text="Am"),
        id3.TRCK(text="3/12"),
        id3.TPOS(text="2/2"),
    ]
    back = id3.APIC(mime="image/jpeg", type=4, data=b"\xff\xd8\xff back")
    return [*texts, back, id3.APIC(mime="image/png", type=3, data=PNG)]


def tagged(path: Path) -> Path:
    """Make a file with the tags, in the way of its format."""
    if path.suffix in (".m4a", ".aiff"):
        write_audio(path.with_suffix(".wav"), SAMPLES, sample_rate=RATE)
        if path.suffix == ".aiff":
            soundfile.write(path, SAMPLES.T, RATE)
        else:
            to_m4a(path.with_suffix(".wav"), path)
    else:
        write_audio(path, SAMPLES, sample_rate=RATE)
    file: Any = File(path)
    if isinstance(file, MP4):
        file.update(
            {
                "\xa9nam": ["Ärger"],
                "\xa9ART": ["One", "Two"],
                "aART": ["Both"],
                "\xa9alb": ["The Discs"],
                "\xa9day": ["2026-03-01"],
                "\xa9gen": ["Rock"],
                "\xa9wrt": ["Three"],
                "cprt": ["CC0"],
                "tmpo": [120],
                "----:com.apple.iTunes:initialkey": [b"Am"],
                "trkn": [(3, 12)],
                "disk": [(2, 2)],
                "covr": [MP4Cover(PNG, MP4Cover.FORMAT_PNG)],
            }
        )
    elif path.suffix in (".wav", ".mp3", ".aiff"):
        if file.tags is None:
            file.add_tags()
        for frame in frames():
            file.tags.add(frame)
    else:
        for name, values in TEXTS.items():
            file[name.upper()] = list(values)
        file["tracknumber"], file["tracktotal"] = "3", "12"
        picture = FlacPicture()
        picture.type, picture.mime, picture.data = 3, "image/png", PNG
        if isinstance(file, FLAC):
            file.add_picture(picture)
        else:
            file["metadata_block_picture"] = base64.b64encode(picture.write()).decode()
    file.save()
    return path


def to_m4a(source: Path, path: Path) -> None:
    with av.open(str(source)) as given, av.open(str(path), "w") as made:
        stream = made.add_stream("aac", rate=RATE)
        for frame in given.decode(audio=0):
            made.mux(stream.encode(frame))  # type: ignore[attr-defined]
        made.mux(stream.encode(None))  # type: ignore[attr-defined]


def write(path: Path, tags: Tags, encoding: Encoding | None = None) -> Path:
    with AudioWriter(path, sample_rate=RATE, channels=2, encoding=encoding, tags=tags) as writer:
        writer.write(SAMPLES)
    return path


def probed(path: Path) -> tuple[dict[str, str], list[str]]:
    """What ffprobe reads: texts in lower case, and the codecs of the streams."""
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_format", "-show_streams", str(path)]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    texts: dict[str, str] = {}
    for part in (report["format"], *report["streams"]):
        texts = {name.lower(): text for name, text in part.get("tags", {}).items()} | texts
    return texts, [stream["codec_name"] for stream in report["streams"]]


@pytest.mark.parametrize("suffix", [*FORMATS, "m4a", "aiff"])
def test_tags_of_every_format_are_read(suffix: str, tmp_path: Path) -> None:
    assert read_tags(tagged(tmp_path / f"song.{suffix}")) == TAGS


def test_info_list_of_a_wav_is_read(tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "song.wav", "w", RATE, 2) as file:
        file.title, file.artist, file.album, file.tracknumber = "Ärger", "One", "The Discs", "3"
        file.write(SAMPLES.T)
    expected = {"title": "Ärger", "artist": "One", "album": "The Discs", "tracknumber": "3"}
    tags = read_tags(tmp_path / "song.wav")
    assert tags == Tags({name: (text,) for name, text in expected.items()})


@pytest.mark.parametrize("suffix", FORMATS)
def test_tags_are_written_and_samples_stay(suffix: str, tmp_path: Path) -> None:
    tags = TAGS.with_provenance(MADE_BY)
    path = write(tmp_path / f"stem.{suffix}", tags)
    plain = write(tmp_path / f"plain.{suffix}", NO_TAGS)
    assert read_tags(path) == TAGS
    np.testing.assert_array_equal(read_audio(path)[0], read_audio(plain)[0])
    assert read_info(path).frames == SAMPLES.shape[1]
    assert write(tmp_path / f"again.{suffix}", tags).read_bytes() == path.read_bytes()
    file: Any = File(path)
    if suffix in ("wav", "mp3"):
        assert file.tags["TXXX:SEPARATED_BY"].text == [MADE_BY]
        assert file.tags["APIC:"].data == PNG
    else:
        assert file["separated_by"] == [MADE_BY]
        assert (file["tracknumber"], file["tracktotal"]) == (["3"], ["12"])


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="needs ffprobe")
@pytest.mark.parametrize("suffix", FORMATS)
def test_other_programs_read_what_is_written(suffix: str, tmp_path: Path) -> None:
    texts, codecs = probed(write(tmp_path / f"stem.{suffix}", TAGS.with_provenance(MADE_BY)))
    assert (texts["title"], texts["album"]) == ("Ärger", "The Discs")
    assert texts["artist"].startswith("One")  # of several in ID3 it shows the first
    assert texts["date"].startswith("2026")
    assert MADE_BY in (texts.get("separated_by"), texts["comment"].removeprefix("separated_by: "))
    assert codecs[1:] == ["png"]


def test_wav_without_tags_of_its_own_has_what_made_it_in_its_info_list(tmp_path: Path) -> None:
    path = write(tmp_path / "stem.wav", NO_TAGS.with_provenance(MADE_BY))
    assert soundfile.SoundFile(path).comment == f"separated_by: {MADE_BY}"
    assert WAVE(path).tags is None


def test_wide_wav_has_an_info_list_alone(tmp_path: Path) -> None:
    tags = TAGS.with_provenance(MADE_BY)
    path = tmp_path / "stem.wav"
    with AudioWriter(path, sample_rate=RATE, channels=2, frames=2**31, tags=tags) as writer:
        writer.write(SAMPLES)
    assert path.read_bytes()[:4] == b"RF64"
    read = read_tags(path)
    assert read.texts["title"] == ("Ärger",)
    assert read.picture is None
    assert read_audio(path)[0].shape == SAMPLES.shape


@pytest.mark.parametrize("suffix", FORMATS)
def test_file_without_samples_has_tags(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"stem.{suffix}"
    with AudioWriter(path, sample_rate=RATE, channels=2, tags=TAGS) as writer:
        pass
    assert read_tags(path) == TAGS
    assert read_info(path).frames == 0
    assert writer is not None


@pytest.mark.parametrize("encoding", ["int16", "float32"])
def test_sample_formats_of_wav_keep_their_header(encoding: Encoding, tmp_path: Path) -> None:
    path = write(tmp_path / "stem.wav", TAGS, encoding)
    plain = write(tmp_path / "plain.wav", NO_TAGS, encoding).read_bytes()
    content = path.read_bytes()
    assert (content[:4], content[8 : len(plain)]) == (plain[:4], plain[8:])


def test_name_of_the_stem_is_in_the_title() -> None:
    assert TAGS.of_stem("vocals").texts["title"] == ("Ärger (vocals)",)
    assert NO_TAGS.of_stem("vocals") == NO_TAGS


def test_texts_that_no_format_holds_are_cleaned(tmp_path: Path) -> None:
    path = tagged(tmp_path / "song.flac")
    file: Any = FLAC(path)
    file["title"], file["artist"], file["album"] = "a\0b\n ", "", "x" * 100_000
    file.save()
    texts = read_tags(path).texts
    assert (texts["title"], len(texts["album"][0])) == (("a b",), 10_000)
    assert "artist" not in texts


def test_all_values_of_a_name_together_are_shortened(tmp_path: Path) -> None:
    path = tagged(tmp_path / "song.flac")
    file: Any = FLAC(path)
    file["title"] = ["ab"] * 100_000
    file["album"] = ["x" * 9_999, "yy", "z"]
    file.save()
    texts = read_tags(path).texts
    # What a stem adds to each title makes them too long for a FLAC file otherwise.
    assert texts["title"] == ("ab",) * 5_000
    assert texts["album"] == ("x" * 9_999, "y")
    assert texts["artist"] == TEXTS["artist"]


def test_cover_that_fits_no_flac_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tagged(tmp_path / "song.mp3")
    file: Any = File(path)
    file.tags.delall("APIC")
    file.tags.add(id3.APIC(mime="image/png", type=3, data=PNG.ljust(17_000_000)))
    file.save()
    tags = read_tags(path)
    assert tags.picture is None
    assert tags.texts == TEXTS
    assert f"{str(path)!r}: its cover of 17.0 MB is left out" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [*FORMATS, "m4a"])
def test_damaged_tags_never_raise(
    suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # that they do not raise is what counts here
    path = tagged(tmp_path / f"song.{suffix}")
    content = path.read_bytes()
    random = np.random.default_rng(7)
    places = np.flatnonzero(np.frombuffer(content, np.uint8) != 0)
    for number in range(20):
        damaged = bytearray(content)
        for place in random.choice(places, 1 + number % 8):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged[: len(damaged) // (1 + number % 3)])
        tags = read_tags(path)
        assert all(isinstance(text, str) for texts in tags.texts.values() for text in texts)
        for container in ("flac", "mp3"):  # what was read can be written
            write(tmp_path / f"stem.{container}", tags)


def test_damaged_tags_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tagged(tmp_path / "song.flac")
    file: Any = FLAC(path)
    file["metadata_block_picture"] = "no picture"
    file.save()
    assert read_tags(path) == NO_TAGS
    assert f"{str(path)!r}: its tags are damaged, and left out of the stems" in caplog.text


def id3_tag(*frames: bytes) -> bytes:
    """An ID3v2.4 tag of these frames."""
    size = sum(map(len, frames))
    return (
        b"ID3\x04\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + b"".join(frames)
    )


def id3_frame(name: bytes, content: bytes, *, flags: bytes = b"\0\0") -> bytes:
    size = bytes(len(content) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return name + size + flags + content


def zlib_bomb() -> bytes:
    """A title of one gibibyte."""
    packer = zlib.compressobj(9)
    blocks = [packer.compress(bytes(2**24)) for _ in range(64)]
    packed = b"".join([*blocks, packer.flush()])
    length = bytes(2**30 >> shift & 0x7F for shift in (21, 14, 7, 0))
    return id3_tag(id3_frame(b"TIT2", length + packed, flags=b"\0\x09"))


@pytest.mark.slow
def test_tag_of_many_frames_does_not_delay_decoding(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain.mp3", tmp_path / "song.mp3"
    write_audio(plain, SAMPLES, sample_rate=RATE)
    frames = [id3_frame(b"TXXX", b"\x03k%d\0v" % number) for number in range(200_000)]
    path.write_bytes(id3_tag(*frames) + plain.read_bytes())
    begun = time.process_time()
    np.testing.assert_array_equal(read_audio(path)[0], read_audio(plain)[0])
    assert read_info(path).frames == SAMPLES.shape[1]
    assert expected_seconds(path) == expected_seconds(plain)
    assert time.process_time() - begun < 10  # with the tag, ffmpeg and mpg123 take minutes


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [zlib_bomb, lambda: id3_tag(*[id3_frame(b"TIT2", b"\x03%d\0" % n) for n in range(150_000)])],
    ids=["much memory", "much time"],
)
def test_tags_that_take_too_much_are_left_out(
    make: Callable[[], bytes],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tag_reader, "_SECONDS", 2)
    path = tmp_path / "song.mp3"
    path.write_bytes(make())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    assert read_tags(path) == NO_TAGS
    assert time.process_time() - begun < 1  # of this process
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB
    assert f"{str(path)!r}: its tags are damaged, and left out" in caplog.text


@pytest.mark.parametrize(
    ("channels", "mask", "tagged"),
    [(6, 0x3F, False), (6, 0x60F, True), (3, 0x103, True), (2, 3, False)],
)
def test_loudspeakers_of_a_flac(channels: int, mask: int, tagged: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    with AudioWriter(path, sample_rate=8000, channels=channels, channel_mask=mask) as writer:
        writer.write(np.zeros((channels, 800), dtype=np.float32))
    assert read_info(path).channel_mask == (mask if channels > 2 else 0)
    tags: Any = FLAC(path).tags or {}
    assert ("waveformatextensible_channel_mask" in tags) == tagged
    if shutil.which("ffprobe") and tagged:
        command = ["ffprobe", "-v", "error", "-show_entries", "stream=channel_layout", str(path)]
        layout = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert {0x60F: "5.1(side)", 0x103: "3.0(back)"}[mask] in layout


@pytest.mark.parametrize("text", ["no number", "0x3", "-1", "0xFFFFFFFFFF"])
def test_loudspeakers_that_are_not_those_of_the_channels(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    soundfile.write(path, np.zeros((800, 6)), 8000)
    file: Any = FLAC(path)
    file["WAVEFORMATEXTENSIBLE_CHANNEL_MASK"] = text
    file.save()
    assert read_info(path).channel_mask == 0x3F
