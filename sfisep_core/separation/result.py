"""Result of separating a recording in memory: its stems, which can be saved."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sfisep_core.audio.files import check_output_format
from sfisep_core.audio.stores import MemoryStore, Samples
from sfisep_core.results import SavedStems
from sfisep_core.separation.output import DEFAULT_OUTPUT, Output
from sfisep_core.separation.stem_files import (
    check_room,
    encoded_bytes,
    existing_folder,
    make_folders,
    write_stems,
)


@dataclass(frozen=True, eq=False, repr=False)
class Separation:
    """Stems of one recording.

    Attributes:
        stems: Samples by stem, float32, full scale at 1, each with the mixture's shape.
        sample_rate: Sample rate of stems and mixture in Hz.
        mixture: The separated signal at `sample_rate`, float32, shape (channel, time), or (time,)
            if the input had that shape.
    """

    stems: dict[str, npt.NDArray[np.float32]]
    sample_rate: int
    mixture: npt.NDArray[np.float32]

    def __repr__(self) -> str:
        """Describe the stems in a line, without their samples."""
        *leading, frames = self.mixture.shape
        channels = leading[0] if leading else 1
        return (
            f"Separation({', '.join(self.stems)}; {channels} channel{'s' * (channels != 1)}, "
            f"{frames / self.sample_rate:.2f} s at {self.sample_rate} Hz)"
        )

    def save(
        self, folder: str | Path, *, track: str = "mixture", output: Output = DEFAULT_OUTPUT
    ) -> SavedStems:
        """Write the stems to files, `<folder>/<stem>.wav` unless `output` differs.

        The files equal those of `Separator.separate_file`: same formats, same clip rule, and after
        an error none is written. They have no tags.

        Args:
            folder: Folder for the stems; created if missing.
            track: Value of {track} in `output.filename`.
            output: What is written, and how.

        Returns:
            The files, and the gain that was applied to avoid clipping.

        Raises:
            AudioFileError: A file cannot be written.
            ConfigError: The format cannot hold this rate or channel count, or there is no such
                stem.

        Examples:
            >>> stem = np.zeros((2, 8000), dtype=np.float32)
            >>> result = Separation({"vocals": stem, "other": stem}, 8000, mixture=stem)
            >>> result
            Separation(vocals, other; 2 channels, 1.00 s at 8000 Hz)
            >>> folder = getfixture("tmp_path")
            >>> [path.name for path in result.save(folder).stems.values()]
            ['vocals.wav', 'other.wav']
        """
        files = output.files(track, Path(folder), tuple(self.stems))
        mixture = MemoryStore(np.atleast_2d(self.mixture))
        (channels,), frames = mixture.leading, mixture.frames
        check_output_format(
            output.container, output.encoding, channels, self.sample_rate, output.bitrate
        )
        check_room(
            existing_folder(Path(folder)),
            encoded_bytes(output, files=len(files), channels=channels, frames=frames),
        )
        make_folders(files.values())
        gain = write_stems(
            mixture,
            _Stacked(self.stems),
            sources=tuple(self.stems),
            files=files,
            sample_rate=self.sample_rate,
            output=output,
        )
        return SavedStems(files, gain_db=20 * float(np.log10(gain)))


class _Stacked:
    """Stems as one signal of shape (source, channel, time), without copying all of it."""

    def __init__(self, stems: Mapping[str, Samples]) -> None:
        self._stems = [np.atleast_2d(stem) for stem in stems.values()]

    @property
    def leading(self) -> tuple[int, ...]:
        return len(self._stems), self._stems[0].shape[0]

    @property
    def frames(self) -> int:
        return int(self._stems[0].shape[-1])

    def read(self, start: int, stop: int) -> Samples:
        return np.stack([stem[:, start:stop] for stem in self._stems])
