"""Output of a separation: which stems are written, in which format, under which names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from sfisep_core.audio.formats import LOSSLESS, STEM_MP4, Encoding
from sfisep_core.errors import ConfigError
from sfisep_core.separation.file_names import stem_file_name

ClipMode = Literal["rescale", "clamp", "none"]
Container = Literal["wav", "flac", "mp3", "ogg", "opus", "stem.mp4"]

RESIDUAL = "residual"
# The tracks of a stem file behind the mixture, as players and MUSDB18 have them.
_STEM_TRACKS = ("drums", "bass", "other", "vocals")
# Usual names of a mixture without vocals.
WITHOUT_VOCALS = ("instrumental", "accompaniment")


@dataclass(frozen=True)
class Output:
    """Settings of the output.

    Attributes:
        container: File format; "stem.mp4" is one file of the mixture and four stems.
        encoding: "int16", "int24" or "float32" (WAV only); None = 24 bit in WAV and FLAC, 16 bit in
            stem.mp4, and the codec's own in others.
        clip_mode: What to do when a stem exceeds full scale: "rescale" scales all files by the same
            factor, "clamp" clips peaks, "none" leaves them to the encoder, which clips them too.
            Floating-point output is never changed.
        stems: The stems to write; None = all. Beside the model's own, `no_<stem>` of any of them,
            and `instrumental` or `accompaniment` for the mixture without vocals.
        two_stems: Write this stem and `no_<stem>`, the mixture without it, and nothing else.
        residual: Also write `residual`, the mixture minus the sum of all stems.
        filename: Pattern of a file below the output folder, with {track}, {stem} and {ext}.
        tags: Write the tags of the input, and one that names program and model, into every stem.
        bitrate: Of MP3, Vorbis or Opus in kbit/s; None = a high one.
    """

    container: Container = "wav"
    encoding: Encoding | None = None
    clip_mode: ClipMode = "rescale"
    stems: tuple[str, ...] | None = None
    two_stems: str | None = None
    residual: bool = False
    filename: str = "{stem}.{ext}"
    tags: bool = True
    bitrate: int | None = None

    def names(self, sources: Sequence[str]) -> list[str]:
        """Return the names of the stems to write.

        Args:
            sources: Stems of the model, in order.

        Raises:
            ConfigError: The model has no such stem, or the options contradict each other.
        """
        if self.stems is not None and not self.stems:
            msg = "stems: expected one or more, got none"
            raise ConfigError(msg)
        if self.bitrate is not None and self.container in (*LOSSLESS, STEM_MP4):
            msg = f"bit rate: {self.container} has none: leave it out, or choose mp3, ogg or opus"
            raise ConfigError(msg)
        if self.container not in get_args(Container):
            known = ", ".join(get_args(Container))
            msg = f"container: expected one of {known}, got {self.container!r}"
            raise ConfigError(msg)
        if self.clip_mode not in get_args(ClipMode):
            msg = f"clip mode: expected rescale, clamp or none, got {self.clip_mode!r}"
            raise ConfigError(msg)
        if self.two_stems is not None and (self.stems is not None or self.residual):
            msg = "two stems are one stem and the rest: leave --stems and --residual out"
            raise ConfigError(msg)
        wanted = [self.two_stems] if self.two_stems is not None else list(self.stems or sources)
        is_pair = self.two_stems is not None
        derived = [name for name in wanted if left_by(name, sources) and not is_pair]
        unknown = [name for name in wanted if name not in sources and name not in derived]
        if unknown:
            msg = f"stem {unknown[0]!r}: expected one of this model's, {', '.join(sources)}"
            raise ConfigError(msg)
        own = [name for name in sources if name in wanted]
        names = [*own, *dict.fromkeys(derived), *[RESIDUAL] * self.residual]
        if self.two_stems is not None:
            names = [self.two_stems, f"no_{self.two_stems}"]
        return _as_tracks(names) if self.container == STEM_MP4 else names

    def files(self, track: str, out_dir: Path, sources: Sequence[str]) -> dict[str, Path]:
        """Return the files to write for an input, by name.

        Args:
            track: Name of the input.
            out_dir: Folder to which `filename` is relative.
            sources: Stems of the model, in order.

        Raises:
            ConfigError: As `names`; or `filename` has unknown fields, leads out of the folder, or
                gives two stems the same name, or those of one stem file several.
        """
        names = self.names(sources)
        files = {
            name: out_dir
            / stem_file_name(self.filename, track=track, stem=name, ext=self.container)
            for name in names
        }
        inside = all(
            file.is_relative_to(out_dir) and ".." not in file.relative_to(out_dir).parts
            for file in files.values()
        )
        ends = all(file.name.lower().endswith(f".{self.container}") for file in files.values())
        if self.container == STEM_MP4:
            number, expected, example = 1, "one name for all stems", "{track}.{ext}"
        else:
            number, expected = len(names), "a name of its own for every stem"
            example = "{track}/{stem}.{ext}"
        if len(set(files.values())) != number or not inside or not ends:
            msg = (
                f"file name {self.filename!r}: expected {expected}, inside the output folder, that "
                f"ends in .{{ext}}; as in {example}"
            )
            raise ConfigError(msg)
        return files


DEFAULT_OUTPUT = Output()


def _as_tracks(names: list[str]) -> list[str]:
    """Return stems in the order of the tracks of a stem file.

    Raises:
        ConfigError: They are not four.
    """
    if len(names) != len(_STEM_TRACKS):
        msg = (
            f"stem.mp4: expected four stems, which players show, got {', '.join(names)}: choose "
            "four, or another format"
        )
        raise ConfigError(msg)
    return list(_STEM_TRACKS) if set(names) == set(_STEM_TRACKS) else names


def left_by(name: str, sources: Sequence[str]) -> str | None:
    """Return the stem that a name subtracts from the mixture; None for other names.

    Args:
        name: `no_<stem>`; or `instrumental` or `accompaniment`, which are the mixture without
            vocals.
        sources: Stems of the model, none of which has such a name.

    >>> left_by("instrumental", ("vocals", "drums")), left_by("drums", ("vocals", "drums"))
    ('vocals', None)
    """
    without = "vocals" if name in WITHOUT_VOCALS else name.removeprefix("no_")
    return without if name not in sources and without != name and without in sources else None
