"""Which stems are scored if a model and a data set divide music in different ways.

A residual stem (`contract.rest_of`) contains what the other stems leave, so its counterpart is the
sum of all stems that have no counterpart:

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
    """Return the stems that are scored.

    Args:
        sources: Sources of the model.
        stems: Stems of the data set.
        where: Start of the message.

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
    """Return the data set's stems whose sum is the reference of a scored stem.

    >>> four = ("vocals", "drums", "bass", "other")
    >>> reference_parts("accompaniment", ("vocals", "accompaniment"), four)
    ['drums', 'bass', 'other']
    """
    return [source] if source in stems else [stem for stem in stems if stem not in sources]


def as_scored(estimates: Mapping[str, Samples], sources: Sequence[str]) -> dict[str, Samples]:
    """Add the estimates of stems that are not scored to the residual stem."""
    scored = {source: estimates[source] for source in sources if source in estimates}
    rest = rest_of(sources)
    for source, estimate in estimates.items():
        if source not in scored and rest is not None:
            scored[rest] = scored[rest] + estimate if rest in scored else estimate
    return scored
