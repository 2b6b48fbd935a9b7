"""From the numbers of `separation_scores` to the page docs/reference/results.md."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

# The rows of the tables; what each does is in `separation_scores.make_methods`.
METHODS = ("SFI", "resample", "untrained", "mixture/4")
NO_TRAINING = ("untrained", "mixture/4")
COMPARED_RATE = 8000


class ItemKey(NamedTuple):
    """What one set of stem scores belongs to."""

    method: str
    sample_rate: int
    item: str


# By stem: {"si_sdr", "improvement"}, or {"leakage_db"} where the reference is silent.
StemScores: TypeAlias = dict[str, dict[str, float]]
Scores: TypeAlias = dict[ItemKey, StemScores]


def make_page(
    scores: Scores,
    *,
    groups: Mapping[str, tuple[str, Sequence[str]]],
    stems: Sequence[str],
    model: str,
    digest: str,
    silent_below_db: float,
) -> str:
    """Write the page in Markdown.

    Rates at which a method or an item is missing are left out.

    Args:
        scores: All numbers of one model.
        groups: Description and keys of the items, by name of the group.
        stems: In the order of the columns.
        model: Name of the model.
        digest: Hash of its file.
        silent_below_db: The manifest's rule.
    """
    keys = [key for _, items in groups.values() for key in items]
    rates = [
        rate
        for rate in sorted({key.sample_rate for key in scores})
        if all(ItemKey(method, rate, item) in scores for method in METHODS for item in keys)
    ]
    option = "" if model == "default" else f" --model {model}"
    text = f"""\
# Results

<!-- Written by tests/benchmarks/separation_scores.py: change that program, not this page. -->

SI-SDR of the model `{model}` at {", ".join(str(rate) for rate in rates)} Hz, in dB,
beside what the same weights give when the recording is resampled to the model's rate and back, and
beside two rows that have learnt nothing.

## How measured

```sh
python -m tests.benchmarks.separation_scores --music ../shared/music{option}
```

- Model: `{model}`, SHA-256 of the file begins with `{digest[:12]}`.
- Material: `tests/benchmarks/separation_manifest.json` lists every excerpt and says how the
  references are made. It is validation material: training leaves it out, but what was trained was
  chosen by looking at it.
- Score: scale-invariant SDR ([Le Roux et al., 2019](https://arxiv.org/abs/1811.02508)) over both
  channels and all samples of an excerpt, against references at the rate that is scored. The
  *improvement* is the estimate's SI-SDR minus the mixture's; means are over the excerpts in which
  the stem is not silent.
- A stem is silent in an excerpt when its RMS is below {silent_below_db:g} dB relative to the
  mixture's. It has no SI-SDR; its *leakage* is given instead: the RMS of the estimate relative to
  the mixture's.
- Rows: **SFI** runs the model at the recording's own rate; **resample** resamples the mixture to
  the model's rate with torchaudio, runs the same weights and resamples the stems back;
  **untrained** is the same network with fresh random weights, run like SFI; **mixture/4** takes a
  quarter of the mixture for every stem.
- The numbers of every excerpt are in the JSON file beside this page.
"""
    for group, (description, items) in groups.items():
        text += _group_section(scores, group, description, items, stems=stems, rates=rates)
    return text


def values_of(
    scores: Scores, items: Iterable[str], *, method: str, rate: int, stem: str, kind: str
) -> list[float]:
    """Collect one kind of number over the items that have it."""
    found = (scores[ItemKey(method, rate, item)][stem] for item in items)
    return [numbers[kind] for numbers in found if kind in numbers]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def not_beaten(
    scores: Scores, items: Sequence[str], *, stems: Sequence[str], rates: Sequence[int]
) -> list[str]:
    """Say where the trained model is not better than a row without training, on average."""
    found = []
    for rate in rates:
        for stem in stems:
            by_method = {
                method: values_of(
                    scores, items, method=method, rate=rate, stem=stem, kind="improvement"
                )
                for method in METHODS
            }
            if not by_method["SFI"]:
                continue
            trained = mean(by_method["SFI"])
            for method in NO_TRAINING:
                if trained <= (other := mean(by_method[method])):
                    numbers = f"SFI {_decibels(trained)}, {method} {_decibels(other)}"
                    found.append(f"{stem} at {rate} Hz ({numbers})")
    return found


def paired_differences(
    scores: Scores, items: Sequence[str], *, rate: int, stem: str
) -> list[float]:
    """Subtract resampling's SI-SDR from SFI's, item by item."""
    native, resampled = (
        values_of(scores, items, method=method, rate=rate, stem=stem, kind="si_sdr")
        for method in ("SFI", "resample")
    )
    return [a - b for a, b in zip(native, resampled, strict=True)]


def _group_section(
    scores: Scores,
    group: str,
    description: str,
    items: Sequence[str],
    *,
    stems: Sequence[str],
    rates: Sequence[int],
) -> str:
    def cells(method: str, rate: int, kind: str) -> list[str]:
        lists = (
            values_of(scores, items, method=method, rate=rate, stem=stem, kind=kind)
            for stem in stems
        )
        return [_decibels(mean(values)) if values else "-" for values in lists]

    def table(kind: str, *, methods: Sequence[str]) -> str:
        counts = [_counts(scores, items, rates=rates, stem=stem, kind=kind) for stem in stems]
        heads = [f"{stem} ({count})" for stem, count in zip(stems, counts, strict=True)]
        rows = [
            [f"{rate} Hz", method, *cells(method, rate, kind)]
            for rate in rates
            for method in methods
        ]
        return _markdown_table(["rate", "row", *heads], rows)

    text = f"\n## {group.capitalize()}\n\n{description}\n"
    text += "\n### SI-SDR improvement (dB)\n\nIn brackets: excerpts in which the stem sounds.\n\n"
    text += table("improvement", methods=METHODS)
    text += f"\n{_verdict(not_beaten(scores, items, stems=stems, rates=rates))}\n"
    if COMPARED_RATE in rates:
        text += f"\n{_comparison(scores, items, stems=stems)}"
    text += (
        "\n### SI-SDR (dB)\n\n"
        "The mixture's own SI-SDR is the row mixture/4, since the score ignores scale.\n\n"
    )
    text += table("si_sdr", methods=METHODS)
    if any(
        values_of(scores, items, method="SFI", rate=rate, stem=stem, kind="leakage_db")
        for rate in rates
        for stem in stems
    ):
        text += (
            "\n### Leakage into silent stems (dB relative to the mixture)\n\n"
            "Lower is better. In brackets: excerpts in which the stem is silent.\n\n"
        )
        text += table("leakage_db", methods=METHODS)
    return text


def _verdict(exceptions: Sequence[str]) -> str:
    claim = "The trained model (SFI) beats both rows without training on every stem at every rate"
    if not exceptions:
        return f"{claim}: **yes**."
    return f"{claim}: **no**, not on " + "; ".join(exceptions) + "."


def _comparison(scores: Scores, items: Sequence[str], *, stems: Sequence[str]) -> str:
    rows = []
    for stem in stems:
        differences = paired_differences(scores, items, rate=COMPARED_RATE, stem=stem)
        if differences:
            ahead = sum(difference > 0 for difference in differences)
            spread = f"{_decibels(min(differences))} to {_decibels(max(differences))}"
            counts = f"{ahead} of {len(differences)}"
            rows.append([stem, _decibels(mean(differences)), spread, counts])
    heads = ["stem", "mean over excerpts", "lowest to highest", "SFI ahead in"]
    return f"SI-SDR of SFI minus that of resampling at {COMPARED_RATE} Hz, dB:\n\n" + (
        _markdown_table(heads, rows)
    )


def _counts(
    scores: Scores, items: Sequence[str], *, rates: Sequence[int], stem: str, kind: str
) -> str:
    """Count the items behind a column: one number, or a range where the rates differ."""
    counts = sorted(
        {
            len(values_of(scores, items, method="SFI", rate=rate, stem=stem, kind=kind))
            for rate in rates
        }
    )
    return "-".join(str(count) for count in sorted({*counts[:1], *counts[-1:]}))


def _decibels(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"  # + 0.0 makes 0 of -0


def _markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
