"""Tags of recordings, whatever the format of the file: texts, and the picture of the cover."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

PROVENANCE = "separated_by"
"""Name of the tag that tells by which program and model a stem was made."""

_PICTURE_STARTS = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n": "image/png",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
    b"RIFF": "image/webp",
}

FRONT_COVER = 3
"""Number of the front cover among the kinds of pictures, in ID3 and FLAC alike."""

# Names of texts by format; Vorbis comments have the names used here.
ID3_FRAMES = {
    "title": "TIT2",
    "artist": "TPE1",
    "albumartist": "TPE2",
    "album": "TALB",
    "date": "TDRC",
    "genre": "TCON",
    "composer": "TCOM",
    "copyright": "TCOP",
    "bpm": "TBPM",
    "initialkey": "TKEY",
    "tracknumber": "TRCK",
    "discnumber": "TPOS",
}
MP4_ATOMS = {
    "title": "\xa9nam",
    "artist": "\xa9ART",
    "albumartist": "aART",
    "album": "\xa9alb",
    "date": "\xa9day",
    "genre": "\xa9gen",
    "composer": "\xa9wrt",
    "copyright": "cprt",
    "bpm": "tmpo",
    "initialkey": "----:com.apple.iTunes:initialkey",
    "tracknumber": "trkn",
    "discnumber": "disk",
}
# The INFO list of WAV, as libsndfile names its texts.
INFO_TEXTS = ("title", "artist", "album", "date", "genre", "tracknumber", "copyright")


@dataclass(frozen=True)
class Picture:
    """Picture of a cover.

    Attributes:
        content: The file of the picture.
    """

    content: bytes

    @property
    def media_type(self) -> str:
        """Type of the content, as tags often name another: image/png, ...; empty if unknown."""
        starts = (start for start in _PICTURE_STARTS if self.content.startswith(start))
        return _PICTURE_STARTS.get(next(starts, b""), "")


@dataclass(frozen=True)
class Tags:
    """Tags of a recording.

    Attributes:
        texts: One or more values of each name: title, artist, albumartist, album, date, genre,
            composer, copyright, bpm, initialkey, tracknumber and discnumber ("3" or "3/12"), or
            `PROVENANCE`.
        picture: The front cover, or else the first picture.
    """

    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    picture: Picture | None = None

    def with_provenance(self, text: str) -> Tags:
        """Return these tags with the program and the model by which a stem was made."""
        return replace(self, texts={**self.texts, PROVENANCE: (text,)})

    def of_stem(self, stem: str) -> Tags:
        """Return these tags with the name of a stem in the title, if there is one."""
        if "title" not in self.texts:
            return self
        titles = tuple(f"{title} ({stem})" for title in self.texts["title"])
        return replace(self, texts={**self.texts, "title": titles})


NO_TAGS = Tags()
