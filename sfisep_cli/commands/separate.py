"""`sfisep separate`: stems of audio files, at their own sampling frequency."""

import os
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sfisep_cli.exit_codes import ExitCode
from sfisep_cli.options import Device, Model, Out, Quiet, SampleRate, Segment
from sfisep_cli.render import console, progress_bar, show_error, show_table
from sfisep_core.errors import ConfigError, SfisepError

if TYPE_CHECKING:
    from sfisep_core.separation.separator import SeparatedFile

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif"})

_FORMAT = "Output format"
_COLUMNS = ("input", "stems", "rate", "channels", "length", "took", "gain")


def separate(
    inputs: Annotated[
        list[Path],
        typer.Argument(help="Audio files, or folders: all audio files in them are taken."),
    ],
    out: Out = Path("separated"),
    model: Model = "default",
    sample_rate: SampleRate = None,
    device: Device = "auto",
    method: Annotated[
        Literal["native", "resample", "soxr", "noisy-kernel", "post-noise", "direct"],
        typer.Option(
            help="native runs the model at the input's own rate; resample converts to the rate "
            "that the model was trained at, and back. The others are for comparisons: soxr is "
            "resample with a better filter; noisy-kernel and post-noise make up for the highs that "
            "a lower rate lacks, with noise; direct feeds the input as it is."
        ),
    ] = "native",
    segment: Segment = None,
    container: Annotated[
        Literal["wav", "flac"],
        typer.Option("--format", help="File format of the stems.", rich_help_panel=_FORMAT),
    ] = "wav",
    int16: Annotated[
        bool, typer.Option("--int16", help="Write 16-bit samples.", rich_help_panel=_FORMAT)
    ] = False,
    int24: Annotated[
        bool,
        typer.Option("--int24", help="Write 24-bit samples: the default.", rich_help_panel=_FORMAT),
    ] = False,
    float32: Annotated[
        bool,
        typer.Option(
            "--float32",
            help="Write floating-point samples, which cannot clip.",
            rich_help_panel=_FORMAT,
        ),
    ] = False,
    clip_mode: Annotated[
        Literal["rescale", "clamp", "none"],
        typer.Option(
            help="What to do with a track of which a stem exceeds full scale: rescale turns all "
            "its stems down by one gain, so that they still sum to the (turned down) mixture; "
            "clamp cuts the peaks off; none leaves them.",
            rich_help_panel=_FORMAT,
        ),
    ] = "rescale",
    quiet: Quiet = False,
) -> None:
    """Separate music into vocals, drums, bass and other.

    Every stem has the sampling frequency, the channels and the exact length of its input, and is
    written as OUT/MODEL/TRACK/STEM.wav. A file that fails does not stop the others; the exit code
    is 1 then.
    """
    encoding = _encoding(int16=int16, int24=int24, float32=float32)
    if container == "flac" and encoding == "float32":
        msg = "--format flac has no floating-point samples: give --int24, or --format wav"
        raise ConfigError(msg)
    model_folder = out / Path(model).name.removesuffix(".safetensors")
    paths, failures = _find_files(inputs, outputs=(out, model_folder))
    folders = _output_folders(paths, model_folder)
    _refuse_own_inputs(folders, suffix=f".{container}")
    for message in failures.values():
        show_error(message)

    rows: list[tuple[str, ...]] = []
    if folders:
        from sfisep_core.separation.file_separation import Output
        from sfisep_core.separation.separator import Separator

        separator = Separator(model, device=device, method=method, segment=segment)
        with progress_bar(quiet=quiet) as show_progress:
            for path, folder in folders.items():

                def report(done: float, total: float, label: str = path.name) -> None:
                    show_progress(done, total, label)

                try:
                    result = separator.separate_file(
                        path,
                        out_dir=folder,
                        sample_rate=sample_rate,
                        output=Output(container, encoding, clip_mode),
                        progress=report,
                    )
                except SfisepError as error:
                    failures[path] = str(error)
                    show_error(str(error))
                    continue
                rows.append(_row(path, folder, result))
    if not quiet:
        rows += [(str(path), "failed") for path in failures]
        show_table(_COLUMNS, rows, target=console)
    if failures:
        raise typer.Exit(ExitCode.FAILED)


def _row(path: Path, folder: Path, result: "SeparatedFile") -> tuple[str, ...]:
    """Describe one separated file, in the order of `_COLUMNS`."""
    return (
        str(path),
        str(folder),
        f"{result.sample_rate} Hz",
        str(result.channels),
        f"{result.seconds:.1f} s",
        f"{result.elapsed:.1f} s",
        f"{result.gain_db:+.1f} dB",
    )


def _encoding(*, int16: bool, int24: bool, float32: bool) -> Literal["int16", "int24", "float32"]:
    """Return the one encoding that was asked for, or the default."""
    if int16 + int24 + float32 > 1:
        msg = "--int16, --int24 and --float32 exclude each other: give one of them"
        raise ConfigError(msg)
    if int16:
        return "int16"
    return "float32" if float32 else "int24"


def _find_files(
    inputs: list[Path], *, outputs: tuple[Path, ...]
) -> tuple[list[Path], dict[Path, str]]:
    """Replace folders by the audio files in them.

    Stems of an earlier run are no input: where an input folder holds one of the `outputs`, what is
    in there is left out.

    Returns:
        The files, each once however often it was named, and the message for every input that
        stands for no file.
    """
    files: dict[str, Path] = {}  # absolute -> as the user wrote it
    failures: dict[Path, str] = {}
    for path in inputs:
        # os.path answers "no" where pathlib raises: a name too long, a folder that may not be read.
        if os.path.isdir(path):
            found = _audio_files_in(path, outputs=outputs)
            if not found:
                failures[path] = (
                    f"{path}: no audio file in this folder or below; looked for "
                    f"{' '.join(sorted(AUDIO_SUFFIXES))}"
                )
        elif os.path.exists(path):
            found = [path]
        else:
            found = []
            failures[path] = f"{path}: no such file or folder"
        for file in found:
            if file.stem in (".", ".."):
                failures[file] = f"{file}: no folder can have the name {file.stem!r}: rename it"
                continue
            files.setdefault(os.path.abspath(file), file)
    return list(files.values()), failures


def _audio_files_in(folder: Path, *, outputs: tuple[Path, ...]) -> list[Path]:
    """Return the audio files in a folder and below, sorted.

    Those in its output folders are left out, and hidden ones: they are other programs' notes, or
    files that are not yet complete.
    """
    root = folder.resolve()
    skipped = [path for path in (output.resolve() for output in outputs) if root in path.parents]
    return [
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in AUDIO_SUFFIXES
        and not file.name.startswith(".")
        and os.path.isfile(file)
        and not any(file.resolve().is_relative_to(path) for path in skipped)
    ]


def _output_folders(paths: list[Path], model_folder: Path) -> dict[Path, Path]:
    """Give every input the folder of its stems, and refuse two inputs for one folder."""
    by_folder = defaultdict(list)
    for path in paths:
        by_folder[model_folder / path.stem].append(path)
    for folder, rivals in by_folder.items():
        if len(rivals) > 1:
            msg = (
                f"{' and '.join(map(str, rivals))} would all write their stems to {folder}: "
                "rename one of them, or separate them in runs with different --out"
            )
            raise ConfigError(msg)
    return {paths[0]: folder for folder, paths in by_folder.items()}


def _refuse_own_inputs(folders: dict[Path, Path], *, suffix: str) -> None:
    """Refuse inputs that a stem could replace: those in a folder that stems are written to."""
    written = {os.path.realpath(folder) for folder in folders.values()}
    for path in folders:
        places = {os.path.realpath(os.path.dirname(os.path.abspath(path)))}
        places.add(os.path.dirname(os.path.realpath(path)))
        if path.suffix.lower() == suffix and places & written:
            msg = f"{path} lies where stems are to be written and may be replaced: change --out"
            raise ConfigError(msg)
