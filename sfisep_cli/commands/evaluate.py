"""`sfisep evaluate`: scores of a model, of baselines and of other separators, at any rate."""

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
    Network,
    Out,
    PostNoise,
    Quiet,
    SampleRate,
    Segment,
    ShardOption,
    Split,
    Tracks,
)
from sfisep_cli.scores import check_options, method_options, run

_BASELINES = "Baselines"


def evaluate(
    data: Data = None,
    split: Split = "test",
    track: Tracks = None,
    sample_rate: SampleRate = None,
    out: Out = Path("evaluation"),
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|FILE",
            help="The model to score, as for `sfisep separate`.",
            show_default="default; none with --estimates",
        ),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            metavar="resample|soxr|noisy-kernel|post-noise|direct|super-resolve|mixture|oracle-irm",
            help="Score this as well. The first six run the model in other ways, see `sfisep "
            "separate --method`; mixture takes the mixture for every stem, and oracle-irm masks "
            "it knowing the stems: what a separator starts from, and what masks can reach. May be "
            "repeated.",
            rich_help_panel=_BASELINES,
        ),
    ] = None,
    no_native: Annotated[
        bool,
        typer.Option(
            "--no-native",
            help="Leave out the model at the tracks' own rate, at which some cannot work.",
            rich_help_panel=_BASELINES,
        ),
    ] = False,
    estimates: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Score stems that any separator has made: DIR/TRACK/STEM.wav (or .flac, .mp3, "
            "...). May be repeated.",
            rich_help_panel=_BASELINES,
        ),
    ] = None,
    kernel_noise: KernelNoise = None,
    post_noise: PostNoise = None,
    low_rate: LowRate = 0,
    network: Network = "",
    metrics: Metrics = "all",
    allow_upsampled: AllowUpsampled = False,
    save_estimates: Annotated[
        bool,
        typer.Option(
            "--save-estimates", help="Write the stems, too: OUT/HZ/SYSTEM/estimates/SPLIT/TRACK/."
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
    """Score a model on the tracks of a data set, at any sampling frequency.

    The scores of a track are in OUT/HZ/SYSTEM/SPLIT/TRACK.json as soon as they are known, in the
    layout of museval's files; calling the command again does only what is missing. Tables over all
    tracks are in OUT/HZ. What cannot be scored does not stop the rest; the exit code is 1 then.
    """
    check_options(baseline or (), low_rate, network, model, as_json=as_json, quiet=quiet)
    from sfisep_core.evaluation import evaluate as core

    request = core.EvaluationRequest(
        data=data,
        split=split,
        tracks=tuple(track or ()),
        sample_rate=sample_rate,
        out=out,
        model=model,
        native=not no_native,
        baselines=tuple(baseline or ()),
        estimates=tuple(estimates or ()),
        method_options=method_options(kernel_noise, post_noise, low_rate, network),
        metrics=metrics,
        allow_upsampled=allow_upsampled,
        save_estimates=save_estimates,
        segment=segment,
        device=device,
        jobs=jobs,
        engine=engine,
        shard=shard,
    )
    run(core.evaluate, request, as_json=as_json, quiet=quiet)
