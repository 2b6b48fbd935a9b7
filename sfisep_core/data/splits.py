"""Decide which tracks are for training and which for validation."""

import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import replace

from sfisep_core.data.layouts import SPLITS, SourceTrack
from sfisep_core.data.musdb18 import VALIDATION_TRACKS

# Percentage of training tracks to hold out if a data set has no validation tracks.
_HELD_OUT_PERCENT = 10


def split_as_musdb18(tracks: Sequence[SourceTrack]) -> list[SourceTrack]:
    """Move the standard validation tracks of MUSDB18 to the split "valid".

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
    depends only on the name, not on other tracks. If this selects no track or all tracks, and there
    are at least two, the one with the smallest digest (modulo 100) is held out.

    Args:
        tracks: Tracks of `find_tracks`. Those with a fault are not held out, and do not count as
            validation tracks.
        cut: Names of tracks with excluded ranges; they are not held out either.

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
    """Compute a number from 0 to 99 that depends only on the name."""
    return int(hashlib.sha256(os.fsencode(name)).hexdigest(), 16) % 100
