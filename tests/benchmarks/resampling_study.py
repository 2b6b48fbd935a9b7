"""The study of docs/reference/results.md: the default model at 13 sampling frequencies.

    python -m tests.benchmarks.resampling_study --music ../shared/music --work study [--jobs 2]

prepares validation and test music, scores every method at every rate, and writes the page, its
figures and a CSV file of all numbers. What is in the folder `--work` is not computed again.
"""

import argparse
import csv
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.evaluation.plan import plan_systems, scored_sources
from sfisep_core.evaluation.resampling_study import DEFAULT_METHODS, SAMPLE_RATES, make_study
from sfisep_core.evaluation.scoring import Evaluation, score_systems
from sfisep_core.evaluation.scoring_jobs import ScoringSettings
from sfisep_core.evaluation.systems import MIXTURE, System
from sfisep_core.evaluation.tables import compare_systems, summary_rows
from sfisep_core.foundation.jobs import Execution
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.identity import ModelIdentity, identify_model
from sfisep_core.pretrained.model_files import save_model
from sfisep_core.pretrained.resolve import resolve_model
from tests.benchmarks.resampling_overview import write_pages
from tests.benchmarks.resampling_page import METRICS, UNTRAINED, Group, write_figure

REPOSITORY = Path(__file__).resolve().parents[2]
_UNTRAINED_SEED = 0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Material:
    """Some of the music that training leaves out.

    Attributes:
        name: Of the group.
        about: What it is.
        tracks: Folders below the music folder, with wildcards.
        exclude: Ranges to leave out, as for `sfisep prepare-data --exclude`.
        methods: What is compared.
    """

    name: str
    about: str
    tracks: str
    exclude: tuple[str, ...] = ()
    methods: tuple[str, ...] = DEFAULT_METHODS


MATERIALS = (
    Material(
        "rendered test",
        "Game music rendered with sampled instruments and a synthetic singer: 20 windows of 30 s "
        "from 9 songs that played no part in training or in any choice.",
        "rendered/test/*",
        methods=("native", "resample", "noisy-kernel", "direct"),
    ),
    Material(
        "rendered validation",
        "The same kind of music: 11 windows of 30 s from 5 songs that training never sees. What "
        "was trained was chosen by looking at them, so this is no test set.",
        "rendered/valid/*",
    ),
    Material(
        "real validation",
        "One minute (30 to 90 s) of one real song (Software-Entwicklungskit, francium; CC0 1.0). "
        "Training sees the rest of this song, whose loops come back in this minute: an easy one.",
        "real/train/francium",
        ("francium:0-30", "francium:90-99999"),
    ),
)


def folder_name(material: Material) -> str:
    """Give the part that a group has in names of files."""
    return material.name.replace(" ", "-")


def prepare(music: Path, work: Path, material: Material) -> StemDataset:
    """Prepare a group as a data set of its own, at the rate of the files."""
    source = work / "music" / folder_name(material)
    (source / "valid").mkdir(parents=True, exist_ok=True)
    folders = sorted(folder for folder in music.glob(material.tracks) if folder.is_dir())
    if not folders:
        msg = f"{music}: expected {material.tracks}, found none"
        raise SystemExit(msg)
    for folder in folders:
        link = source / "valid" / folder.name
        if not link.is_symlink():
            link.symlink_to(folder.resolve(), target_is_directory=True)
    prepared = prepare_dataset(
        PreparationRequest(
            source=source,
            out=work / "data" / folder_name(material),
            container="flac",
            exclude=material.exclude,
        )
    )
    if prepared.skipped:
        raise SystemExit("; ".join(f"{name}: {reason}" for name, reason in prepared.skipped))
    return StemDataset(prepared.folder, split="valid", excerpt_seconds=None)


def untrained_model(model: ModelIdentity, work: Path) -> ModelIdentity:
    """Write the same network with fresh weights, mixture-consistent."""
    path = work / f"{UNTRAINED}-{model.sha256[:12]}.safetensors"
    if not path.exists():
        trained = resolve_model(model.name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_UNTRAINED_SEED)
            settings = trained.config_dict() | {"gain_rule": "mixture-consistent"}
            save_model(build_model(trained.family, settings), path)
    return identify_model(str(path))


def score(
    dataset: StemDataset,
    systems: Sequence[System],
    *,
    sources: tuple[str, ...],
    sample_rates: Sequence[int],
    out: Path,
    jobs: int,
    equivariance: bool,
) -> Evaluation:
    """Score systems on all tracks of a group."""
    started = time.monotonic()

    def report(done: int, total: int, label: str) -> None:
        elapsed = time.monotonic() - started
        left = elapsed / done * (total - done)
        _log.info("%d/%d, %s; about %.0f s left", done, total, label, left)

    evaluation = score_systems(
        dataset,
        dataset.tracks,
        systems=systems,
        sample_rates=sample_rates,
        sources=sources,
        out=out,
        settings=ScoringSettings(metrics="sdr", equivariance=equivariance),
        execution=Execution(jobs=jobs),
        progress=report,
    )
    if evaluation.failures:
        raise SystemExit("; ".join(failure.message for failure in evaluation.failures))
    return evaluation


def run(
    *,
    music: Path,
    work: Path,
    model: str,
    sample_rates: Sequence[int],
    page: Path,
    jobs: int,
    materials: Sequence[Material] = MATERIALS,
    untrained: bool = True,
    silent_stems: bool = True,
) -> list[Group]:
    """Score what is missing, and write the figures and the CSV file that belong to a page.

    Args:
        music: Folder with rendered/ and real/.
        work: Folder for data and scores.
        model: Name or file.
        sample_rates: Hz.
        page: The page, which the caller writes.
        jobs: Processes.
        materials: The music.
        untrained: Whether the same network is also scored with fresh weights.
        silent_stems: Whether to keep tracks in which a stem is silent. Of two stems the other is
            then the mixture itself, and its scores say only how silent the first was made.

    Returns:
        What the page shows.
    """
    trained = identify_model(model)
    groups, rows = [], []
    for material in materials:
        dataset = prepare(music, work, material)
        sources = scored_sources(trained, dataset.stems)
        systems = plan_systems(trained, [*material.methods, MIXTURE], stems=dataset.stems)
        out = work / "scores" / folder_name(material)
        scores = score(
            dataset,
            systems,
            sources=sources,
            sample_rates=sample_rates,
            out=out,
            jobs=jobs,
            equivariance=True,
        ).scores
        if untrained:
            # One model at a time, so that none is loaded again for every track.
            fresh = System(UNTRAINED, "native", UNTRAINED, untrained_model(trained, work))
            of_fresh = score(
                dataset,
                [fresh],
                sources=sources,
                sample_rates=sample_rates,
                out=out,
                jobs=jobs,
                equivariance=False,
            )
            scores, systems = [*scores, *of_fresh.scores], [*systems, fresh]
        if not silent_stems:
            scores = [of_track for of_track in scores if not of_track.silent_sources]
        study = make_study(
            trained,
            compare_systems(scores, [system.name for system in systems]),
            data=material.about,
            systems=systems,
            sample_rates=sample_rates,
            tracks=dataset.tracks,
            examples=[],
        )
        figure = page.with_name(f"{page.stem}-{folder_name(material)}.svg")
        write_figure(replace(study, systems=material.methods), figure)
        groups.append(Group(material.name, study, figure.name))
        shown = {key: summary for key, summary in study.summaries.items() if key.metric in METRICS}
        rows += [{"music": material.name} | row for row in summary_rows(shown)]
    with page.with_suffix(".csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _short(v) for k, v in row.items()} for row in rows)
    return groups


def _short(value: object) -> object:
    return f"{value:.3f}" if isinstance(value, float) else value


def make_parser(program: str, page: str) -> argparse.ArgumentParser:
    """Make a parser of the options that every study has.

    Args:
        program: Module of `tests.benchmarks`.
        page: Where it writes unless told otherwise, below the repository.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m tests.benchmarks.{program}",
        description="Score the methods at many sampling frequencies and write the results page.",
    )
    parser.add_argument("--music", type=Path, required=True, help="folder with rendered/ and real/")
    parser.add_argument("--work", type=Path, required=True, help="folder for data and scores")
    parser.add_argument("--rates", type=int, nargs="+", default=SAMPLE_RATES, help="Hz (all 13)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=REPOSITORY / page, help=f"page to write (default: {page})"
    )
    return parser


def start(options: argparse.Namespace) -> None:
    """Show progress, and make the folder for data and scores."""
    logging.basicConfig(format="%(message)s")
    _log.setLevel(logging.INFO)
    options.work.mkdir(parents=True, exist_ok=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser("resampling_study", "docs/reference/results.md")
    parser.add_argument(
        "--model", default="sfi-conv-tasnet-small", help="name or file (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    start(options)
    groups = run(
        music=options.music,
        work=options.work,
        model=options.model,
        sample_rates=sorted(options.rates),
        page=options.out,
        jobs=options.jobs,
    )
    usual = options.model == parser.get_default("model")
    write_pages(
        groups,
        options.out,
        title="Results",
        program="resampling_study",
        option="" if usual else f" --model {options.model}",
    )


if __name__ == "__main__":
    main()
