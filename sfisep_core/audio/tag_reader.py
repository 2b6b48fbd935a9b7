"""Read the tags of audio files. Mutagen is imported when a file is read."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sfisep_core.audio.tags import (
    FRONT_COVER,
    ID3_FRAMES,
    INFO_TEXTS,
    MP4_ATOMS,
    NO_TAGS,
    Picture,
    Tags,
)
from sfisep_core.foreign import shown
from sfisep_core.foundation.exit_signals import raise_received

# Of all values of one name: a FLAC file holds less than 16 MB of texts, whatever is appended.
_MOST_CHARACTERS = 10_000
# What a FLAC file holds in one block, less the block's other fields.
_LARGEST_PICTURE = 2**24 - 2**16
# RF64 and W64, which mutagen does not read.
_WIDE_WAVES = (b"RF64", b"riff")
_MPEG_SUFFIXES = (".mp3", ".mp2")

_logger = logging.getLogger(__name__)


def read_tags(path: Path) -> Tags:
    """Read the tags of a FLAC, MP3, Ogg, Opus, M4A, WAV or AIFF file.

    Damaged tags are no error: a warning says that they are left out.

    Args:
        path: Audio file.

    Returns:
        Its tags; none for other formats.
    """
    try:
        return _cleaned(_read(path), path)
    except Exception as error:  # mutagen raises whatever a damaged file leads to
        raise_received()
        _logger.warning(
            "%r: its tags are damaged, and left out of the stems (%s): save them anew with a "
            "program for tags",
            *(str(path), shown(str(error))),
        )
        return NO_TAGS


def _read(path: Path) -> Tags:
    import mutagen
    from mutagen._vorbis import VCommentDict
    from mutagen.id3 import ID3, ID3NoHeaderError
    from mutagen.mp4 import MP4Tags

    with path.open("rb") as file:
        head = file.read(4)
    if head in _WIDE_WAVES:
        return _read_info(path)
    if path.suffix.lower() in _MPEG_SUFFIXES:  # with frames of whatever kind
        try:
            return _read_id3(ID3(path))
        except ID3NoHeaderError:
            return NO_TAGS
    opened: Any = mutagen.File(path)
    tags = None if opened is None else opened.tags
    if isinstance(tags, ID3):
        return _read_id3(tags)
    if isinstance(tags, MP4Tags):
        return _read_mp4(tags)
    if isinstance(tags, VCommentDict):
        return _read_vorbis(opened, tags)
    return _read_info(path) if head == b"RIFF" else NO_TAGS


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


def _read_info(path: Path) -> Tags:
    import soundfile

    with soundfile.SoundFile(path) as file:
        texts = file.copy_metadata()
    return Tags({name: (texts[name],) for name in INFO_TEXTS if name in texts})


def _best(pictures: Sequence[tuple[int, Picture]]) -> Picture | None:
    """Return the front cover, or else the first picture; none that is no picture."""
    usable = [(kind, picture) for kind, picture in pictures if picture.media_type]
    fronts = [picture for kind, picture in usable if kind == FRONT_COVER]
    return next(iter([*fronts, *(picture for _, picture in usable)]), None)


def _cleaned(tags: Tags, path: Path) -> Tags:
    """Return tags that every format can hold."""
    texts = {name: _cleaned_texts(values) for name, values in tags.texts.items()}
    picture = tags.picture
    if picture is not None and len(picture.content) > _LARGEST_PICTURE:
        _logger.warning(
            "%r: its cover of %.1f MB is left out of the stems: expected at most %.1f MB",
            *(str(path), len(picture.content) / 1e6, _LARGEST_PICTURE / 1e6),
        )
        picture = None
    return Tags({name: values for name, values in texts.items() if values}, picture)


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
