"""What operations return."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SeparatedFile:
    """One separated file.

    Attributes:
        path: The input.
        stems: Written file of each stem.
        sample_rate: Of the stems, in Hz.
        channels: Of every stem.
        frames: Samples of every stem.
        seconds: Duration of the music.
        elapsed: Wall-clock seconds it took, reading and writing included.
        gain_db: Gain that was applied to all stems alike so that none clips; 0 = none.
    """

    path: Path
    stems: dict[str, Path]
    sample_rate: int
    channels: int
    frames: int
    seconds: float
    elapsed: float
    gain_db: float


@dataclass(frozen=True)
class SavedStems:
    """Stems of one recording in files.

    Attributes:
        stems: Written file of each stem.
        gain_db: Gain that was applied to all stems alike so that none clips; 0 = none.
    """

    stems: dict[str, Path]
    gain_db: float
