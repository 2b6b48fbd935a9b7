"""References and mixture of a track, at the rate of scoring."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfisep_core.audio.files import read_audio
from sfisep_core.audio.resample import resample
from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.manifest import PreparedTrack, dataset_file
from sfisep_core.errors import DatasetError
from sfisep_core.evaluation.scored_stems import reference_parts
from sfisep_core.evaluation.study import Samples


@dataclass(frozen=True)
class TrackSignals:
    """The signals of one track.

    Attributes:
        name: Name of the track.
        split: Split of the data set.
        sample_rate: Hz.
        sources: Names in the order of the source axis.
        references: Shape (source, channel, time).
        mixture: The track's own mixture, or else the sum of the stems; shape (channel, time).
    """

    name: str
    split: str
    sample_rate: int
    sources: tuple[str, ...]
    references: Samples
    mixture: Samples


def read_signals(
    dataset: StemDataset, track: PreparedTrack, *, sources: tuple[str, ...], sample_rate: int
) -> TrackSignals:
    """Read a track; its signals are resampled with soxr VHQ if their rate differs.

    Args:
        dataset: The data set's split, of whole tracks.
        track: One of its tracks.
        sources: Names, in the order of the result. A source that the data set does not have is the
            sum of all stems that are not requested themselves.
        sample_rate: Hz.

    Returns:
        Its signals.

    Raises:
        AudioFileError: A file cannot be read.
        DatasetError: A file is shorter than stated in the manifest.
    """
    stems = [
        np.sum(
            [
                dataset.read_whole(track, stem)
                for stem in reference_parts(source, sources, dataset.stems)
            ],
            axis=0,
        )
        for source in sources
    ]
    if track.mixture is None:
        mixture: Samples = np.sum([dataset.read_whole(track, s) for s in track.stems], axis=0)
    else:
        mixture = _read_mixture(dataset_file(dataset.folder, track.mixture), track)

    def at_rate(signal: Samples) -> Samples:
        return resample(signal, orig_rate=track.sample_rate, target_rate=sample_rate)

    return TrackSignals(
        name=track.name,
        split=track.split,
        sample_rate=sample_rate,
        sources=sources,
        references=np.stack([at_rate(stem) for stem in stems]),
        mixture=at_rate(mixture),
    )


def _read_mixture(path: Path, track: PreparedTrack) -> Samples:
    mixture, _ = read_audio(path)
    if mixture.shape[1] != track.frames:
        msg = (
            f"{path}: expected {track.frames} frames as the manifest says, found "
            f"{mixture.shape[1]}: prepare the data again"
        )
        raise DatasetError(msg)
    return mixture
