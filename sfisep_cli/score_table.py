"""The scores as a table for the terminal: one line per rate and method, with all stems."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sfisep_core.evaluation.requests import ScoringResult
    from sfisep_core.evaluation.tables import Comparison

# Key and heading of the scores shown: for unnamed sources, and for all others.
_SPEECH = {"si_snr_improvement": "SI-SNRi", "sdr_improvement": "SDRi"}
_MUSIC = {"sdr": "SDR", "si_sdr": "SI-SDR"}

_GAP = "  "  # in front of every stem
_Row = tuple[int, str]  # rate in Hz, and name of the system


@dataclass(frozen=True)
class _Stem:
    """The columns of one stem: two lines of headings, and the text of every row."""

    headings: tuple[str, str]
    texts: Mapping[_Row, str]

    @property
    def width(self) -> int:
        return len(self.headings[0])


def score_lines(result: "ScoringResult", *, width: int) -> list[str]:
    """Format the medians of scores over tracks as lines of text.

    Stems that exceed the width follow below, in a table with the same rows.

    Args:
        result: The scores.
        width: Maximum length of a line in characters.

    Returns:
        The lines; none if nothing was scored, or for a shard while scores are missing.
    """
    comparison = result.comparison
    if not result.scores or comparison is None:
        return []
    metrics = _SPEECH if any(key.metric in _SPEECH for key in comparison.scores) else _MUSIC
    tracks = len(result.tables["tracks"])
    over = f"median over {tracks} tracks" if tracks > 1 else "1 track"
    lines = [f"{' and '.join(metrics.values())} in dB, {over}"]
    labels = {system.name: system.label for system in result.systems}
    label_width = max(map(len, labels.values()))
    rows = list(dict.fromkeys((scores.sample_rate, scores.system) for scores in result.scores))
    stems = [_stem(comparison, source, metrics, rows, tracks) for source in result.sources]
    for block in _blocks(stems, width - label_width):
        lines += [_line("", label_width, (stem.headings[n] for stem in block)) for n in (0, 1)]
        for sample_rate in dict.fromkeys(rate for rate, _ in rows):
            lines.append(f"{sample_rate} Hz")
            lines += [
                _line(labels[row[1]], label_width, (stem.texts[row] for stem in block))
                for row in rows
                if row[0] == sample_rate
            ]
    if any("*" in stem.headings[0] for stem in stems):
        lines.append("* fewer tracks have a score: silent stems and failures are left out")
    return lines


def _stem(
    comparison: "Comparison",
    source: str,
    metrics: Mapping[str, str],
    rows: Sequence[_Row],
    tracks: int,
) -> _Stem:
    """Build the columns of a stem; its name has a star if not all tracks have a score."""
    from sfisep_core.evaluation.study import ScoreKey

    summaries = {
        row: [comparison.summaries.get(ScoreKey(*row, source, metric)) for metric in metrics]
        for row in rows
    }
    numbers = {
        row: ["-" if summary is None else _number(summary.median) for summary in of_row]
        for row, of_row in summaries.items()
    }
    widths = [
        max(map(len, column)) for column in zip(metrics.values(), *numbers.values(), strict=True)
    ]
    all_tracks = all(
        summary is not None and summary.tracks == tracks
        for of_row in summaries.values()
        for summary in of_row
    )
    name = source if all_tracks else f"{source}*"

    def join(texts: Sequence[str]) -> str:
        pairs = zip(texts, widths, strict=True)
        return " ".join(text.rjust(width) for text, width in pairs).rjust(len(name))

    headings = join(list(metrics.values()))
    return _Stem(
        (name.rjust(len(headings)), headings), {row: join(texts) for row, texts in numbers.items()}
    )


def _blocks(stems: Sequence[_Stem], width: int) -> list[Sequence[_Stem]]:
    """Distribute the stems evenly over as few tables as the width allows."""
    widest = max(stem.width for stem in stems) + len(_GAP)
    count = math.ceil(len(stems) / max(1, width // widest))
    if sum(stem.width + len(_GAP) for stem in stems) <= width:
        count = 1
    size = math.ceil(len(stems) / count)
    return [stems[start : start + size] for start in range(0, len(stems), size)]


def _line(label: str, label_width: int, texts: Iterable[str]) -> str:
    return (label.ljust(label_width) + "".join(_GAP + text for text in texts)).rstrip()


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
