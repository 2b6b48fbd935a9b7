"""Results of operations."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SeparatedFile:
    """Result of separating a file.

    Attributes:
        path: The input.
        stems: Written file of each stem.
        sample_rate: Sample rate of the stems in Hz.
        channels: Number of channels of every stem.
        frames: Number of samples of every stem.
        seconds: Duration of the music.
        elapsed: Wall-clock seconds, reading and writing included.
        gain_db: Gain that was applied to all stems equally to avoid clipping; 0 = none.
        page: Page to listen to the stems; None if none was asked for.
    """

    path: Path
    stems: dict[str, Path]
    sample_rate: int
    channels: int
    frames: int
    seconds: float
    elapsed: float
    gain_db: float
    page: Path | None = None


@dataclass(frozen=True)
class SavedStems:
    """Stems of one recording in files.

    Attributes:
        stems: Written file of each stem.
        gain_db: Gain that was applied to all stems equally to avoid clipping; 0 = none.
    """

    stems: dict[str, Path]
    gain_db: float
