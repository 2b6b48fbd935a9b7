"""Which stems are scored where a model and a data set divide music in different ways.

A stem for the rest (`contract.rest_of`) holds whatever the named stems leave, so its counterpart is
the sum of all that have none:

- model vocals, accompaniment; data vocals, drums, bass, other: the references of drums, bass and
  other are summed, vocals and accompaniment are scored.
- model vocals, piano, drums, bass, other; data vocals, drums, bass, other: the estimate of piano is
  added to that of other.
- model vocals, drums, bass, other; data vocals, accompaniment: the estimates of drums, bass and
  other are summed.
"""

from collections.abc import Mapping, Sequence

from sfisep_core.evaluation.study import Samples
from sfisep_core.models.contract import rest_of
from sfisep_core.separation.permutation import check_sources_fit


def scored_stems(sources: Sequence[str], stems: Sequence[str], *, where: str) -> tuple[str, ...]:
    """Name the stems that are scored.

    Args:
        sources: Of the model.
        stems: Of the data set.
        where: Beginning of the message.

    Raises:
        ConfigError: Sources and stems have no common division.

    >>> four = ("vocals", "drums", "bass", "other")
    >>> scored_stems(("vocals", "accompaniment"), four, where="model")
    ('vocals', 'accompaniment')
    >>> scored_stems(("vocals", "piano", "drums", "bass", "other"), four, where="model")
    ('vocals', 'drums', 'bass', 'other')
    """
    foreign = [source for source in sources if source not in stems]
    rest = rest_of(sources)
    if rest is not None and foreign == [rest] and any(stem not in sources for stem in stems):
        return (*(stem for stem in stems if stem in sources), rest)
    if foreign and rest is not None and rest_of(stems) is not None:
        return tuple(stems)
    check_sources_fit(sources, stems, where=where)
    return tuple(stems)


def reference_parts(source: str, sources: Sequence[str], stems: Sequence[str]) -> list[str]:
    """Name the data set's stems whose sum is the reference of a scored stem.

    >>> four = ("vocals", "drums", "bass", "other")
    >>> reference_parts("accompaniment", ("vocals", "accompaniment"), four)
    ['drums', 'bass', 'other']
    """
    return [source] if source in stems else [stem for stem in stems if stem not in sources]


def as_scored(estimates: Mapping[str, Samples], sources: Sequence[str]) -> dict[str, Samples]:
    """Add the estimates of stems that are not scored to that of the rest."""
    found = {source: estimates[source] for source in sources if source in estimates}
    rest = rest_of(sources)
    for source, estimate in estimates.items():
        if source not in found and rest is not None:
            found[rest] = found[rest] + estimate if rest in found else estimate
    return found
