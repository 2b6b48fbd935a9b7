"""`sfisep compare-resampling`: compare methods for many sampling frequencies, with a report."""

from pathlib import Path
from typing import Annotated

import typer

from sfisep_cli.options import (
    AllowUpsampled,
    AsJson,
    Data,
    Device,
    EngineOption,
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
    ShardOption,
    Split,
    Tracks,
)
from sfisep_cli.scores import check_options, method_options, run

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
            "mixture|oracle-irm",
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
    engine: EngineOption = "local",
    shard: ShardOption = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare SFI layers with resampling over sampling frequencies, and write a report.

    Every method separates every track at every frequency. Scores are kept in OUT as `sfisep
    evaluate` keeps them, so that calling the command again does only what is missing.
    OUT/report.html shows figures, statistics and excerpts to listen to; it needs no network.
    """
    check_options(method or (), low_rate, network, model, as_json=as_json, quiet=quiet)
    from sfisep_core.evaluation import resampling_study as core

    request = core.ResamplingRequest(
        data=data,
        split=split,
        tracks=tuple(track or ()),
        sample_rates=tuple(sample_rate or ()),
        out=out,
        model=model,
        methods=tuple(method or core.DEFAULT_METHODS),
        method_options=method_options(kernel_noise, post_noise, low_rate, network),
        metrics=metrics,
        allow_upsampled=allow_upsampled,
        report=not no_report,
        examples=tuple(example or ()),
        example_rates=tuple(example_rate or ()),
        segment=segment,
        device=device,
        jobs=jobs,
        engine=engine,
        shard=shard,
    )
    run(core.compare_resampling, request, as_json=as_json, quiet=quiet)
