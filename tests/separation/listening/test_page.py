"""The page's text: what it refers to, and that names cannot break it."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
import soundfile

from sfisep_core.errors import AudioFileError
from sfisep_core.separation.listening import (
    ListeningPage,
    ListeningRequest,
    make_listening_page,
    page_of_stems,
)

STEMS = ("vocals", "drums", "bass", "other")


class Reader(HTMLParser):
    """Collects the elements of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def values(self, tag: str, attribute: str) -> list[str | None]:
        return [
            attrs[attribute] for name, attrs in self.elements if name == tag and attribute in attrs
        ]


def write(path: Path, *, seconds: float = 0.5, sample_rate: int = 8000, level: float = 0.1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).normal(0, level, round(seconds * sample_rate))
    plain = path.with_name(f"plain{path.suffix}")  # libsndfile takes no name that is not UTF-8
    soundfile.write(plain, samples, sample_rate)
    return plain.replace(path)


def make(folder: Path, *names: str) -> ListeningPage:
    for name in names:
        write(folder / name)
    return make_listening_page(ListeningRequest(folder))


def muted(page: ListeningPage) -> set[str]:
    return {
        str(attrs["aria-label"])
        for tag, attrs in Reader(page.path).elements
        if tag == "article" and attrs["data-muted"] == "true"
    }


def test_page_lies_beside_the_stems_and_refers_to_them(tmp_path: Path) -> None:
    folder = tmp_path / "my song"
    page = make(folder, "other.flac", "bass.wav", "vocals.wav", "drums.ogg", "residual.wav")
    assert page.path == folder / "listen.html"
    assert list(page.stems) == [*STEMS, "residual"]
    assert page.seconds == 0.5
    reader = Reader(page.path)
    assert reader.values("audio", "src") == [
        "./vocals.wav",
        "./drums.ogg",
        "./bass.wav",
        "./other.flac",
        "./residual.wav",
    ]
    assert "<h1>my song</h1>" in reader.text
    assert "5 tracks \N{MIDDLE DOT} 8 kHz \N{MIDDLE DOT} mono" in reader.text
    assert "default-src 'none'" in reader.text
    images = reader.values("img", "src")
    assert len(images) == 5
    assert all(str(image).startswith("data:image/webp;base64,") for image in images)
    assert not re.search(r"https?://|@import|url\(", reader.text)


def test_a_page_is_made_anew_with_the_same_bytes(tmp_path: Path) -> None:
    page = make(tmp_path, "vocals.wav", "drums.wav")
    first = page.path.read_bytes()
    assert make_listening_page(ListeningRequest(tmp_path)).path.read_bytes() == first
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "drums.wav",
        "listen.html",
        "vocals.wav",
    ]


def test_names_are_escaped_and_addresses_lead_to_the_files(tmp_path: Path) -> None:
    folder = tmp_path / '<script>alert(1)<script> & "co"'
    odd = ["<b>'\"&.wav", "javascript:alert(1).wav", "a#b?c%41.wav", "音楽 é.wav", "\udcff\x1b.wav"]
    page = make(folder, *odd)
    reader = Reader(page.path)
    addresses = [str(address) for address in reader.values("audio", "src")]
    assert all(re.fullmatch(r"\./[A-Za-z0-9_.~%-]+", address) for address in addresses)
    files = {os.fsdecode(unquote_to_bytes(address.removeprefix("./"))) for address in addresses}
    assert files == set(odd)
    names = reader.values("article", "aria-label")
    assert {"<b>'\"&", "javascript:alert(1)", "a#b?c%41", "音楽 é", "\\xff\\x1b"} == set(names)
    tags = {tag for tag, _ in reader.elements}
    assert "b" not in tags
    assert len(reader.values("script", "src")) == 0
    assert sum(tag == "script" for tag, _ in reader.elements) == 1


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (STEMS, set()),
        (("vocals", "no_vocals"), set()),
        (("vocals", "accompaniment"), set()),
        ((*STEMS, "residual"), set()),
        ((*STEMS, "mixture"), {"mixture"}),
        ((*STEMS, "instrumental", "no_drums"), {"instrumental", "no_drums"}),
        (("mixture",), set()),
    ],
)
def test_what_would_sound_twice_is_muted_at_first(
    tmp_path: Path, names: tuple[str, ...], expected: set[str]
) -> None:
    assert muted(make(tmp_path, *(f"{name}.wav" for name in names))) == expected


def test_same_stem_in_two_formats_is_told_apart(tmp_path: Path) -> None:
    page = make(tmp_path, "vocals.wav", "vocals.flac", "drums.wav")
    assert list(page.stems) == ["drums", "vocals.flac", "vocals.wav"]


def test_what_not_all_browsers_play_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page = make(tmp_path, "vocals.aiff", "drums.wav")
    message = "not all browsers play AIFF (int16): convert it to WAV, FLAC or MP3"
    assert caplog.messages == [f"{tmp_path / 'vocals.aiff'}: {message}"]
    notes = re.findall(r'<p class="note"( hidden)?>(.*?)</p>', Reader(page.path).text)
    assert notes == [("", message), (" hidden", "")]


def test_lengths_may_differ(tmp_path: Path) -> None:
    write(tmp_path / "vocals.wav", seconds=1.0)
    write(tmp_path / "drums.wav", seconds=4.0, sample_rate=16000)
    write(tmp_path / "bass.wav", seconds=0.0)
    page = make_listening_page(ListeningRequest(tmp_path))
    assert page.seconds == 4.0
    assert re.findall(r"width: ([\d.]+)%", Reader(page.path).text)[-3:] == ["25.0", "100.0", "0.0"]


def test_nothing_to_play_is_no_error(tmp_path: Path) -> None:
    write(tmp_path / "vocals.wav", seconds=0.0)
    assert make_listening_page(ListeningRequest(tmp_path)).seconds == 0.0


def test_folders_without_stems_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match=r"missing: expected a folder .*got No such file"):
        make_listening_page(ListeningRequest(tmp_path / "missing"))
    (tmp_path / ".hidden.wav").touch()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(AudioFileError, match="expected audio files in it, found none: name one "):
        make_listening_page(ListeningRequest(tmp_path))
    write(tmp_path / "song" / "vocals.wav")
    with pytest.raises(AudioFileError, match=rf"such as {re.escape(str(tmp_path / 'song'))}$"):
        make_listening_page(ListeningRequest(tmp_path))
    with pytest.raises(AudioFileError, match="Not a directory"):
        make_listening_page(ListeningRequest(tmp_path / "notes.txt"))


def test_an_unreadable_stem_leaves_the_earlier_page(tmp_path: Path) -> None:
    page = make(tmp_path, "vocals.wav")
    before = page.path.read_bytes()
    (tmp_path / "drums.wav").write_bytes(b"no audio")
    with pytest.raises(AudioFileError, match=r"drums\.wav"):
        make_listening_page(ListeningRequest(tmp_path))
    assert page.path.read_bytes() == before


def test_a_page_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "vocals.wav")
    (tmp_path / "listen.html" / "full").mkdir(parents=True)
    with pytest.raises(AudioFileError, match=r"^page .*listen\.html: expected a file"):
        make_listening_page(ListeningRequest(tmp_path))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["listen.html", "vocals.wav"]


@pytest.mark.parametrize(
    ("pattern", "page", "address"),
    [
        ("song/{}.wav", "song/listen.html", "./drums.wav"),
        ("song-{}.wav", "song-listen.html", "./song-drums.wav"),
        ("{}/song.wav", "song-listen.html", "./drums/song.wav"),
    ],
)
def test_page_of_any_pattern_of_names(
    tmp_path: Path, pattern: str, page: str, address: str
) -> None:
    stems = {name: write(tmp_path / pattern.format(name)) for name in ("vocals", "drums")}
    path = page_of_stems(stems, "song")
    assert path == tmp_path / page
    assert address in Reader(path).values("audio", "src")


def test_progress_counts_files(tmp_path: Path) -> None:
    for name in ("vocals", "drums"):
        write(tmp_path / f"{name}.wav")
    calls: list[tuple[float, float, str]] = []
    make_listening_page(
        ListeningRequest(tmp_path), progress=lambda *progress: calls.append(progress)
    )
    assert calls == [
        (0, 2, str(tmp_path / "vocals.wav")),
        (1, 2, str(tmp_path / "drums.wav")),
    ]
