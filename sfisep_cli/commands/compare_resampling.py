"""`sfisep compare-resampling`: methods of serving many sampling frequencies, and a report."""

from pathlib import Path
from typing import Annotated

import typer

from sfisep_cli.options import (
    AllowUpsampled,
    AsJson,
    Data,
    Device,
    Jobs,
    KernelNoise,
    LowRate,
    Metrics,
    Model,
    Network,
    Out,
    PostNoise,
    Quiet,
    Segment,
    Split,
    Tracks,
    check_low_rate,
)
from sfisep_cli.render import show_message
from sfisep_cli.scores import describe, finish, leave_if_failed, method_options, run
from sfisep_core.errors import ConfigError, DatasetError

_REPORT = "Report"


def compare_resampling(
    data: Data = None,
    split: Split = "test",
    track: Tracks = None,
    sample_rate: Annotated[
        list[int] | None,
        typer.Option(
            "--sr",
            metavar="HZ",
            min=4000,
            max=384000,
            help="Compare at this sampling frequency. May be repeated.",
            show_default="13 of them from 8 to 48 kHz",
        ),
    ] = None,
    out: Out = Path("resampling-study"),
    model: Model = "default",
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="native|resample|soxr|noisy-kernel|post-noise|direct|super-resolve|"
            "super-resolve-share|mixture|oracle-irm",
            help="Compare this, see `sfisep separate --method` and `sfisep evaluate --baseline`; "
            "the first is compared with the others. May be repeated.",
            show_default="the first six",
        ),
    ] = None,
    kernel_noise: KernelNoise = None,
    post_noise: PostNoise = None,
    low_rate: LowRate = 0,
    network: Network = "",
    metrics: Metrics = "all",
    allow_upsampled: AllowUpsampled = False,
    example: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TRACK[:START-END]",
            help="Make this excerpt (in seconds) one to listen to. May be repeated.",
            show_default="six lively seconds of one track",
            rich_help_panel=_REPORT,
        ),
    ] = None,
    example_rate: Annotated[
        list[int] | None,
        typer.Option(
            "--example-sr",
            metavar="HZ",
            help="Where to listen: one of the frequencies compared. May be repeated.",
            show_default="the lowest",
            rich_help_panel=_REPORT,
        ),
    ] = None,
    no_report: Annotated[
        bool,
        typer.Option(
            "--no-report",
            help="Write no OUT/report.html, which needs matplotlib.",
            rich_help_panel=_REPORT,
        ),
    ] = False,
    segment: Segment = None,
    device: Device = "auto",
    jobs: Jobs = 1,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare SFI layers with resampling over sampling frequencies, and write a report.

    Every method separates every track at every frequency. Scores are kept in OUT as `sfisep
    evaluate` keeps them, so that calling the command again does only what is missing.
    OUT/report.html shows figures, statistics and excerpts to listen to; it needs no network.
    """
    from sfisep_core.data.datasets import StemDataset
    from sfisep_core.data.remembered import find_dataset
    from sfisep_core.evaluation.pieces import Settings
    from sfisep_core.evaluation.plan import check_rates, plan_systems, select_tracks
    from sfisep_core.evaluation.resampling_study import (
        METHODS,
        SAMPLE_RATES,
        make_examples,
        make_study,
        plan_excerpts,
        prepare_report,
        write_report,
    )
    from sfisep_core.evaluation.systems import model_file
    from sfisep_core.evaluation.tables import collect, pair

    if as_json and quiet:
        msg = "--json and --quiet exclude each other: give one of them"
        raise ConfigError(msg)
    check_low_rate(method or METHODS, low_rate, network)
    if not no_report:
        prepare_report()
    dataset = StemDataset(find_dataset(data), split=split, excerpt_seconds=None)
    tracks = select_tracks(dataset, track or [])
    lowest_stored = min(found.sample_rate for found in tracks)
    sample_rates = sorted(
        set(sample_rate or [rate for rate in SAMPLE_RATES if rate <= lowest_stored])
    )
    check_rates(tracks, sample_rates, allow_upsampled=allow_upsampled)
    example_rates = sorted(set(example_rate or sample_rates[:1]))
    if not set(example_rates) <= set(sample_rates):
        msg = f"--example-sr: expected one of {', '.join(map(str, sample_rates))}"
        raise ConfigError(msg)
    excerpts = plan_excerpts(tracks, example or [])
    described = model_file(model)
    options = method_options(kernel_noise, post_noise, low_rate, network)
    systems = plan_systems(
        described,
        method or METHODS,
        stems=dataset.stems,
        segment=segment,
        options=options,
    )
    settings = Settings(
        metrics=metrics, allow_upsampled=allow_upsampled, equivariance=True, device=device
    )
    _remove(out / "report.html")  # of an earlier call: it would stand beside other scores
    evaluation = run(
        dataset,
        tracks,
        systems=systems,
        sample_rates=sample_rates,
        out=out,
        settings=settings,
        jobs=jobs,
        quiet=quiet,
    )
    about = describe(
        settings,
        model=described,
        segment=segment,
        options=options,
        dataset=dataset,
        split=split,
        tracks=tracks,
    )
    finish(evaluation, systems, about, folder=out, as_json=as_json, quiet=quiet)
    if not no_report and evaluation.scores:
        names = {scores.track for scores in evaluation.scores}
        scored = [found for found in tracks if found.name in names]
        study = make_study(
            described,
            collect(evaluation.scores),
            pair(evaluation.scores, [system.name for system in systems]),
            data=f"{len(scored)} of {len(tracks)} tracks of the split {split!r} of "
            f"{dataset.folder.name}",
            systems=systems,
            sample_rates=sample_rates,
            tracks=scored,
            examples=make_examples(
                dataset,
                excerpts,
                systems=systems,
                sample_rates=example_rates,
                device=device,
                allow_upsampled=allow_upsampled,
            ),
        )
        path = out / "report.html"
        try:
            write_report(study, described, path)
        except OSError as error:
            msg = f"report {path}: cannot be written: {error.strerror}; choose another --out"
            raise DatasetError(msg) from error
        if not quiet:
            show_message(f"report: {path}")
    leave_if_failed(evaluation)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        msg = f"report {path}: cannot be replaced: {error.strerror}; choose another --out"
        raise DatasetError(msg) from error
