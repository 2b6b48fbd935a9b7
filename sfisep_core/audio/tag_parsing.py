"""Parse the tags of audio files, without limits on time and memory."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sfisep_core.audio.tags import (
    FRONT_COVER,
    ID3_FRAMES,
    INFO_TEXTS,
    MP4_ATOMS,
    Picture,
    Tags,
)

# Of all values of one name: a FLAC file holds less than 16 MB of texts, whatever is appended.
_MOST_CHARACTERS = 10_000
# RF64 and W64, which mutagen does not read.
WIDE_WAVES = (b"RF64", b"riff")
_MPEG_SUFFIXES = (".mp3", ".mp2")


def parse_tags(path: Path) -> Tags | None:
    """Read the tags of a FLAC, MP3, Ogg, Opus, M4A, WAV or AIFF file with mutagen.

    It believes every size that a file claims: see `tag_reader` for limits.

    Args:
        path: Audio file.

    Returns:
        Its tags; None where libsndfile may know some, or where there are none.

    Raises:
        Exception: Of any kind, where the tags are damaged.
    """
    tags = _read(path)
    return None if tags is None else _cleaned(tags)


def read_info_list(path: Path) -> Tags:
    """Read the INFO list of a WAV, RF64 or W64 with libsndfile.

    Raises:
        Exception: It cannot be read.
    """
    from sfisep_core.audio.sequential_file import open_sequential

    with path.open("rb", buffering=0) as raw, open_sequential(raw) as file:
        texts = file.copy_metadata()
    return _cleaned(Tags({name: (texts[name],) for name in INFO_TEXTS if name in texts}))


def _read(path: Path) -> Tags | None:
    import mutagen
    from mutagen.flac import FLAC
    from mutagen.id3 import ID3, ID3NoHeaderError
    from mutagen.mp4 import MP4Tags
    from mutagen.ogg import OggFileType

    with path.open("rb") as file:
        if file.read(4) in WIDE_WAVES:
            return None
    if path.suffix.lower() in _MPEG_SUFFIXES:  # with frames of whatever kind
        try:
            return _read_id3(ID3(path))
        except ID3NoHeaderError:
            return None
    opened: Any = mutagen.File(path)
    tags = None if opened is None else opened.tags
    if isinstance(tags, ID3):
        return _read_id3(tags)
    if isinstance(tags, MP4Tags):
        return _read_mp4(tags)
    if tags is not None and isinstance(opened, FLAC | OggFileType):
        return _read_vorbis(opened, tags)
    return None


def _read_id3(tags: Any) -> Tags:
    texts = {}
    for name, frame in ID3_FRAMES.items():
        frames = tags.getall(frame)
        # Genres may be numbers of a list.
        values = [frame.genres if frame.FrameID == "TCON" else frame.text for frame in frames]
        texts[name] = tuple(str(text) for value in values for text in value)
    pictures = [(int(p.type), Picture(p.data)) for p in tags.getall("APIC")]
    return Tags(texts, _best(pictures))


def _read_mp4(tags: Any) -> Tags:
    texts = {}
    for name, atom in MP4_ATOMS.items():
        values = tags.get(atom, [])
        if atom in ("trkn", "disk"):
            texts[name] = tuple(
                f"{part}/{total}" if total else f"{part}" for part, total in values if part
            )
        else:
            decoded = (v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values)
            texts[name] = tuple(map(str, decoded))
    pictures = [(FRONT_COVER, Picture(bytes(cover))) for cover in tags.get("covr", [])]
    return Tags(texts, _best(pictures))


def _read_vorbis(opened: Any, tags: Any) -> Tags:
    from mutagen.flac import Picture as FlacPicture

    texts = {name: tuple(map(str, tags.get(name, ()))) for name in ID3_FRAMES}
    for number, total in (("tracknumber", "tracktotal"), ("discnumber", "disctotal")):
        totals = tags.get(total, tags.get(f"total{number.removesuffix('number')}s", ()))
        if totals and texts[number] and "/" not in texts[number][0]:
            texts[number] = (f"{texts[number][0]}/{totals[0]}",)
    blocks = list(getattr(opened, "pictures", ()))
    blocks += [FlacPicture(base64.b64decode(p)) for p in tags.get("metadata_block_picture", ())]
    return Tags(texts, _best([(int(b.type), Picture(b.data)) for b in blocks]))


def _best(pictures: Sequence[tuple[int, Picture]]) -> Picture | None:
    """Return the front cover, or else the first picture; none that is no picture."""
    usable = [(kind, picture) for kind, picture in pictures if picture.media_type]
    fronts = [picture for kind, picture in usable if kind == FRONT_COVER]
    return next(iter([*fronts, *(picture for _, picture in usable)]), None)


def _cleaned(tags: Tags) -> Tags:
    """Return tags that every format can hold."""
    texts = {name: _cleaned_texts(values) for name, values in tags.texts.items()}
    return Tags({name: values for name, values in texts.items() if values}, tags.picture)


def _cleaned_texts(values: Iterable[str]) -> tuple[str, ...]:
    texts, room = [], _MOST_CHARACTERS
    for value in values:
        if room == 0:
            break
        valid = value[:room].encode("utf-8", "replace").decode()
        text = valid.replace("\0", " ").strip()
        if text:
            texts.append(text)
            room -= len(text)
    return tuple(texts)
