"""Decide which tracks are for training and which for validation."""

import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import replace

from sfisep_core.data.layouts import SPLITS, SourceTrack
from sfisep_core.data.musdb18 import VALIDATION_TRACKS

# Share of the training tracks that are held out where a data set has none for validation.
_HELD_OUT_PERCENT = 10


def split_as_musdb18(tracks: Sequence[SourceTrack]) -> list[SourceTrack]:
    """Move the training tracks that MUSDB18 is validated on to the split "valid".

    Args:
        tracks: Tracks of MUSDB18 or MUSDB18-HQ, or some of them.

    Returns:
        The same tracks, in order of split and name.
    """
    return _move(tracks, VALIDATION_TRACKS)


def hold_out_tracks(
    tracks: Sequence[SourceTrack], *, cut: Collection[str] = ()
) -> list[SourceTrack]:
    """Move some training tracks to the split "valid", unless there are tracks for validation.

    A tenth is held out: those whose name has a SHA-256 digest below 10 modulo 100. The choice
    hence depends on the name alone, not on the other tracks. Where no digest is, and there are at
    least two tracks, the one with the smallest (modulo 100) is held out; so it is where every
    digest is.

    Args:
        tracks: Tracks as `find_tracks` gives them. One with a fault is not held out, and does not
            count as a track to validate on.
        cut: Names of tracks of which a part is left out; they are not held out either.

    Returns:
        The same tracks, in order of split and name.
    """
    training = [t for t in tracks if t.split == "train" and not t.fault]
    usable = [t for t in training if t.name not in cut]
    validates = any(t.split == "valid" and not t.fault for t in tracks)
    if len(training) < 2 or not usable or validates:
        return _move(tracks, ())
    held_out = {track.name for track in usable if _draw(track.name) < _HELD_OUT_PERCENT}
    if len(held_out) in (0, len(training)):
        held_out = {min(usable, key=lambda track: _draw(track.name)).name}
    return _move(tracks, held_out)


def _move(tracks: Sequence[SourceTrack], names: Collection[str]) -> list[SourceTrack]:
    moved = [
        replace(t, split="valid") if t.split == "train" and t.name in names else t for t in tracks
    ]
    return sorted(moved, key=lambda track: (SPLITS.index(track.split), track.name))


def _draw(name: str) -> int:
    """Give a number of 0 to 99 that depends on the name alone."""
    return int(hashlib.sha256(os.fsencode(name)).hexdigest(), 16) % 100
