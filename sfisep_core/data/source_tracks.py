"""The tracks of the user's data set, and their files."""

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
    """One track of the user's data set.

    Attributes:
        name: Name of its folder, `.stem.mp4`, or files in numbered folders.
        split: "train", "valid" or "test".
        path: The folder, `.stem.mp4`, or first of these files.
        stems: The files that sum to each stem; stems without a file are left out.
        mixture: The given mixture, if there is one.
        problem: Why it cannot be prepared, apart from missing stems; empty = no problem.
        expected: Names of the required stems, in order.
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
        """Why it cannot be prepared, judged by file names; empty = no known reason."""
        missing = [stem for stem in self.expected if stem not in self.stems]
        if not self.problem and missing:
            return f"expected stems {', '.join(self.expected)}; missing {', '.join(missing)}"
        return self.problem


def audio_files(folder: Path) -> list[Path]:
    """List the audio files of a folder, without hidden files."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]


def holds_audio(folder: Path) -> bool:
    """Tell whether a folder directly contains audio files."""
    try:
        return any(path.is_file() for path in audio_files(folder))
    except OSError:
        return False


def name_twice(files: Iterable[Sequence[Path]]) -> str:
    """Describe files with the same name and different suffixes; empty = none."""
    there = next((", ".join(path.name for path in same) for same in files if len(same) > 1), "")
    if not there:
        return ""
    return f"expected one file for each name, found {there}: remove what is not to count"
