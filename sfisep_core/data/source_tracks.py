"""The tracks of a data set as the user has them, and the files that they are made of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

STEMS = ("vocals", "drums", "bass", "other")
SPLITS = ("train", "valid", "test")
MIXTURE = "mixture"
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")


@dataclass(frozen=True)
class SourceFile:
    """An audio file; `stream` is the name of the stream of a `.stem.mp4`, or empty."""

    path: Path
    stream: str = ""


@dataclass(frozen=True)
class SourceTrack:
    """One track of a data set as the user has it.

    Attributes:
        name: Of its folder, `.stem.mp4`, or files in numbered folders.
        split: "train", "valid" or "test".
        path: The folder, `.stem.mp4`, or first of these files.
        stems: The files that sum to each stem; a stem without a file is not there.
        mixture: The given mixture, if there is one.
        problem: Why it cannot be prepared, besides missing stems; empty = no reason.
        expected: Names of the stems that it has to have, in order.
    """

    name: str
    split: str
    path: Path
    stems: dict[str, tuple[SourceFile, ...]]
    mixture: SourceFile | None = None
    problem: str = ""
    expected: tuple[str, ...] = STEMS

    @property
    def fault(self) -> str:
        """Why it cannot be prepared, as far as file names tell; empty = it may be."""
        missing = [stem for stem in self.expected if stem not in self.stems]
        if not self.problem and missing:
            return f"expected stems {', '.join(self.expected)}; missing {', '.join(missing)}"
        return self.problem


def audio_files(folder: Path) -> list[Path]:
    """List the audio files of a folder; those that begin with a dot are some system's own."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]


def holds_audio(folder: Path) -> bool:
    """Tell whether a folder holds audio files itself."""
    try:
        return any(path.is_file() for path in audio_files(folder))
    except OSError:
        return False


def name_twice(files: Iterable[Sequence[Path]]) -> str:
    """Say which files have one name and different suffixes; empty = none."""
    there = next((", ".join(path.name for path in same) for same in files if len(same) > 1), "")
    if not there:
        return ""
    return f"expected one file for each name, found {there}: remove what is not to count"
