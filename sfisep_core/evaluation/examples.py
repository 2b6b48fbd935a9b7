"""Excerpts of tracks to listen to in the report of a comparison."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.manifest import PreparedTrack
from sfisep_core.errors import ConfigError, SfisepError
from sfisep_core.evaluation.signals import read_signals
from sfisep_core.evaluation.study import Example, Samples
from sfisep_core.evaluation.systems import System, make_estimates

EXAMPLE_SECONDS = 6.0

_logger = logging.getLogger(__name__)

_EXAMPLE = re.compile(r"(?P<track>.+?)(:(?P<start>\d+(?:\.\d+)?)-(?P<stop>\d+(?:\.\d+)?))?")


@dataclass(frozen=True)
class Excerpt:
    """Part of a track to listen to, in seconds."""

    track: PreparedTrack
    start: float
    stop: float


def plan_excerpts(tracks: Sequence[PreparedTrack], chosen: Sequence[str]) -> list[Excerpt]:
    """Choose the excerpts to listen to.

    Args:
        tracks: The tracks that are scored.
        chosen: "TRACK" or "TRACK:START-END" in seconds; none = an excerpt of one track.

    Returns:
        The excerpts. Without a range: the six seconds in which the quietest stem is loudest.

    Raises:
        ConfigError: A track is not scored, or a range is not in it.
    """
    by_name = {track.name: track for track in tracks}
    excerpts = []
    for text in chosen:
        match = _EXAMPLE.fullmatch(text)
        name = text if text in by_name or match is None else match["track"]
        if name not in by_name:
            msg = f"example {text!r}: expected TRACK or TRACK:START-END of a track that is scored"
            raise ConfigError(msg)
        track = by_name[name]
        if name == text or match is None:
            excerpts.append(_liveliest(track))
            continue
        start, stop = float(match["start"]), float(match["stop"])
        if not 0 <= start < stop <= track.frames / track.sample_rate:
            seconds = track.frames / track.sample_rate
            msg = f"example {text!r}: expected a range within 0-{seconds:g} s, START before END"
            raise ConfigError(msg)
        excerpts.append(Excerpt(track, start, stop))
    if not chosen:
        # Prefer a track in which all stems are active.
        best = max(tracks, key=lambda track: _balance(track, *_range(_liveliest(track))))
        excerpts.append(_liveliest(best))
    return excerpts


def _range(excerpt: Excerpt) -> tuple[int, int]:
    return int(excerpt.start), max(int(excerpt.stop), int(excerpt.start) + 1)


def _balance(track: PreparedTrack, start: int, stop: int) -> float:
    """Compute the power of the quietest stem in a range of seconds."""
    powers = [np.square(track.activity[source][start:stop]) for source in track.stems]
    return min((float(p.mean()) for p in powers if p.size), default=0.0)


def _liveliest(track: PreparedTrack) -> Excerpt:
    seconds = track.frames / track.sample_rate
    latest = max(0, int(seconds - EXAMPLE_SECONDS))
    length = int(EXAMPLE_SECONDS)
    start = max(range(latest + 1), key=lambda first: _balance(track, first, first + length))
    return Excerpt(track, float(start), min(start + EXAMPLE_SECONDS, seconds))


def make_examples(
    dataset: StemDataset,
    excerpts: Sequence[Excerpt],
    *,
    systems: Sequence[System],
    sources: tuple[str, ...],
    sample_rates: Sequence[int],
    device: str,
    allow_upsampled: bool,
) -> list[Example]:
    """Separate excerpts with all systems, each with three seconds of context on either side.

    Args:
        dataset: The split.
        excerpts: Parts of its tracks.
        systems: The systems.
        sources: Names of the stems, in order.
        sample_rates: Rates in Hz to separate at.
        device: Device of models.
        allow_upsampled: See `ScoringSettings`.

    Returns:
        An example per excerpt and rate; those that cannot be read or separated are left out, with a
        warning in the log.
    """
    examples = []
    for excerpt in excerpts:
        for sample_rate in sample_rates:
            try:
                examples.append(
                    _make_example(
                        dataset,
                        excerpt,
                        systems=systems,
                        sources=sources,
                        sample_rate=sample_rate,
                        device=device,
                        allow_upsampled=allow_upsampled,
                    )
                )
            except SfisepError as error:
                _logger.warning("no example of %s: %s", excerpt.track.name, error)
    return examples


def _make_example(
    dataset: StemDataset,
    excerpt: Excerpt,
    *,
    systems: Sequence[System],
    sources: tuple[str, ...],
    sample_rate: int,
    device: str,
    allow_upsampled: bool,
) -> Example:
    whole = read_signals(dataset, excerpt.track, sources=sources, sample_rate=sample_rate)
    start, stop = round(excerpt.start * sample_rate), round(excerpt.stop * sample_rate)
    around = slice(max(0, start - 3 * sample_rate), stop + 3 * sample_rate)
    inside = slice(start - around.start, stop - around.start)
    part = replace(
        whole, references=whole.references[..., around], mixture=whole.mixture[..., around]
    )

    def cut(signal: Samples) -> Samples:
        return np.ascontiguousarray(signal[..., inside])

    def cut_all(stems: Mapping[str, Samples]) -> dict[str, Samples]:
        return {source: cut(stem) for source, stem in stems.items()}

    return Example(
        track=excerpt.track.name,
        start=excerpt.start,
        sample_rate=sample_rate,
        mixture=cut(part.mixture),
        references=cut_all(dict(zip(sources, part.references, strict=True))),
        estimates={
            system.name: cut_all(
                make_estimates(system, part, device=device, allow_upsampled=allow_upsampled)
            )
            for system in systems
        },
    )
