"""`sfisep evaluate`: scores of a model, of baselines and of other separators, at any rate."""

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
    Network,
    Out,
    PostNoise,
    Quiet,
    SampleRate,
    Segment,
    Split,
    Tracks,
    check_low_rate,
)
from sfisep_cli.scores import describe, finish, leave_if_failed, method_options, run
from sfisep_core.errors import ConfigError

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
            metavar="resample|soxr|noisy-kernel|post-noise|direct|super-resolve|super-resolve-share|"
            "mixture|oracle-irm",
            help="Score this as well. The first seven run the model in other ways, see `sfisep "
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
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score a model on the tracks of a data set, at any sampling frequency.

    The scores of a track are in OUT/HZ/SYSTEM/SPLIT/TRACK.json as soon as they are known, in the
    layout of museval's files; calling the command again does only what is missing. Tables over all
    tracks are in OUT/HZ. What cannot be scored does not stop the rest; the exit code is 1 then.
    """
    from sfisep_core.data.datasets import StemDataset
    from sfisep_core.data.remembered import find_dataset
    from sfisep_core.evaluation.pieces import Settings
    from sfisep_core.evaluation.plan import check_rates, plan_systems, select_tracks, stored_rate
    from sfisep_core.evaluation.systems import model_file

    if as_json and quiet:
        msg = "--json and --quiet exclude each other: give one of them"
        raise ConfigError(msg)
    check_low_rate(baseline or [], low_rate, network)
    dataset = StemDataset(find_dataset(data), split=split, excerpt_seconds=None)
    tracks = select_tracks(dataset, track or [])
    target_rate = stored_rate(tracks) if sample_rate is None else sample_rate
    check_rates(tracks, [target_rate], allow_upsampled=allow_upsampled)
    name = "default" if model is None and not estimates else model
    options = method_options(kernel_noise, post_noise, low_rate, network)
    described = None if name is None else model_file(name)
    systems = plan_systems(
        described,
        [*(["native"] if name is not None and not no_native else []), *(baseline or [])],
        stems=dataset.stems,
        estimates=estimates or [],
        segment=segment,
        options=options,
    )
    settings = Settings(
        metrics=metrics,
        allow_upsampled=allow_upsampled,
        save_estimates=save_estimates,
        device=device,
    )
    evaluation = run(
        dataset,
        tracks,
        systems=systems,
        sample_rates=[target_rate],
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
    folder = out / str(target_rate)
    finish(evaluation, systems, about, folder=folder, as_json=as_json, quiet=quiet)
    leave_if_failed(evaluation)
