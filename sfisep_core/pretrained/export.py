"""Write a model as ONNX, for one sampling frequency and one length, and check the file."""

import importlib.util
import json
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from sfisep_core.config_values import CheckedConfig, Range
from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.foundation.atomic import written_whole
from sfisep_core.foundation.exit_signals import raise_received
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.export.portable import PortableNetwork, SegmentNetwork, check_portable
from sfisep_core.pretrained.description import METADATA_KEY, read_description
from sfisep_core.pretrained.file_kinds import model_file_kind
from sfisep_core.pretrained.identity import identify_model, load_identified
from sfisep_core.pretrained.model_files import first_line
from sfisep_core.pretrained.resolve import model_path

OPSET = 20
"""The version of ONNX's operators; ONNX Runtime has them from 1.17 on."""
LARGEST_ERROR = 1e-4
"""Of exported stems, relative to the largest sample of stems and mixture."""

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_DEFAULT_SECONDS = 10.0  # of models that take whole signals
_LARGEST_CONTEXT = 4  # a context takes at most this part of a segment, on either side


@dataclass(frozen=True)
class ExportRequest(CheckedConfig):
    """What to export.

    Attributes:
        model: Name, path or address of a model, see `resolve_model`.
        out: File to write (.onnx).
        sample_rate: Hz, the one rate at which the exported network works.
        seconds: Length of its input; None = a segment of the model with its context.
        channels: Number of channels of its input.

    Raises:
        ConfigError: A value is out of range.
    """

    section = "export: "

    model: str
    out: Path
    sample_rate: Annotated[int, Range(4000, 384_000)]
    seconds: Annotated[float, Range(0.1, 600)] | None = None
    channels: Annotated[int, Range(1, 64)] = 2


@dataclass(frozen=True)
class ExportedNetwork:
    """What a file says of itself, as JSON under the key `sfisep` of its metadata.

    Attributes:
        model: Name of the model.
        sha256: Digest of the model's file.
        family: Name of the family.
        licence: Licence of the weights; empty if unknown.
        stems: Names in the order of the output's first axis.
        sample_rate: Hz.
        input: Name of the input.
        input_shape: Channels and samples; both are fixed.
        output: Name of the output.
        output_shape: Stems, channels and samples.
        context: Samples at either end of the output that are less exact, for want of what comes
            before and after.
        gains: "least-squares" where stems are still to be scaled so that they add up to the
            mixture, one factor for each stem and channel of a recording; else "none".
        program: Program and version that wrote the file.
    """

    model: str
    sha256: str
    family: str
    licence: str
    stems: tuple[str, ...]
    sample_rate: int
    input: str
    input_shape: tuple[int, int]
    output: str
    output_shape: tuple[int, int, int]
    context: int
    gains: str
    program: str


@dataclass(frozen=True)
class ExportResult:
    """An exported network.

    Attributes:
        path: The file.
        size: Its bytes.
        network: What it says of itself.
        error: Largest difference of its stems from those of PyTorch, on noise, relative to the
            largest sample.
    """

    path: Path
    size: int
    network: ExportedNetwork
    error: float


def export_model(request: ExportRequest) -> ExportResult:
    """Write a model's network as ONNX and compare it with the model.

    Args:
        request: What to export.

    Returns:
        The file and what is in it.

    Raises:
        CheckpointError: The model cannot be read, the file cannot be written, or its stems differ
            from the model's.
        ConfigError: A package is missing, or this model cannot be exported at this rate.
    """
    _check_packages()
    if request.out.suffix != ".onnx":
        msg = f"export {request.out}: expected a name that ends in .onnx"
        raise ConfigError(msg)
    if not request.out.absolute().parent.is_dir():
        msg = f"export {request.out}: expected a folder that exists: make it first"
        raise ConfigError(msg)
    identity = identify_model(request.model)
    model = load_identified(identity)
    check_portable(model, request.sample_rate)
    model(torch.zeros(1, request.channels, 0), sample_rate=request.sample_rate)  # refuses rates
    frames, context = _segment(model, request)
    noise = np.random.default_rng(0).normal(0.0, 0.1, (request.channels, frames))
    mixture = torch.from_numpy(noise.astype(np.float32))
    with torch.no_grad():
        stems = SegmentNetwork(model, request.sample_rate)(mixture)
        program = _trace(PortableNetwork(model, request.sample_rate), mixture, request)
    network = ExportedNetwork(
        model=identity.shown,
        sha256=identity.sha256,
        family=model.family,
        licence=_licence(request.model),
        stems=model.sources,
        sample_rate=request.sample_rate,
        input="mixture",
        input_shape=(request.channels, frames),
        output="stems",
        output_shape=(len(model.sources), request.channels, frames),
        context=context,
        gains="least-squares" if model.gain_rule == "least-squares" else "none",
        program=f"sfisep {version('sfisep')}",
    )
    program.model.metadata_props[METADATA_KEY] = json.dumps(asdict(network), ensure_ascii=False)
    try:
        with written_whole(request.out) as temporary:
            program.save(temporary)
            error = _largest_error(temporary, mixture, stems)
            if not error <= LARGEST_ERROR:
                msg = (
                    f"export {request.out}: expected the model's stems to {LARGEST_ERROR}, got "
                    f"{error:.1e} with ONNX Runtime {version('onnxruntime')}: nothing is written"
                )
                raise CheckpointError(msg)
    except OSError as error_of_disk:
        msg = f"export {request.out}: cannot be written: {error_of_disk.strerror or error_of_disk}"
        raise CheckpointError(msg) from error_of_disk
    return ExportResult(request.out, request.out.stat().st_size, network, error)


def _check_packages() -> None:
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        msg = (
            f"export: needs {' and '.join(missing)}, not installed: run "
            "`pip install 'sfisep[export]'`"
        )
        raise ConfigError(msg)


def _segment(model: SeparationModel, request: ExportRequest) -> tuple[int, int]:
    """Return the samples of a segment, its context included, and of the context on either side."""
    rule, seconds = model.segments, request.seconds
    if seconds is None:
        whole = rule.seconds + 2 * rule.context_seconds
        seconds = whole if rule.seconds else max(_DEFAULT_SECONDS, whole)
    frames = max(2, math.ceil(seconds * request.sample_rate))
    context = math.ceil(rule.context_seconds * request.sample_rate)
    return frames, min(context, frames // _LARGEST_CONTEXT)


def _licence(name: str) -> str:
    path = model_path(name)
    return read_description(path).licence if model_file_kind(path) == "safetensors" else ""


def _trace(network: PortableNetwork, mixture: Tensor, request: ExportRequest) -> Any:
    """Trace a network for inputs of one shape."""
    try:
        network(mixture)
        with _quiet():
            exported = torch.export.export(network, (mixture,), strict=False)
            # Its optimiser takes additions of small constants, which keep quotients finite, for
            # additions of nothing. ONNX Runtime optimises when it loads a file.
            return torch.onnx.export(
                exported,
                dynamo=True,
                input_names=["mixture"],
                output_names=["stems"],
                opset_version=OPSET,
                optimize=False,
                verbose=False,
            )
    except (NotImplementedError, torch.onnx.OnnxExporterError) as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        msg = (
            f"{network.model.family} model {request.model}: cannot be exported: ONNX or "
            f"PyTorch's exporter lacks what the network does: {reason}"
        )
        raise ConfigError(msg) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what the exporter says of packages that are not needed, and of its own code."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _largest_error(path: Path, mixture: Tensor, stems: Tensor) -> float:
    """Run a file on a mixture and compare with its stems."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: not what it cannot compute ahead
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (exported,) = session.run(["stems"], {"mixture": mixture.numpy()})
    except Exception as error:  # its errors have no common class
        raise_received()
        msg = f"export: ONNX Runtime cannot run what PyTorch's exporter wrote: {first_line(error)}"
        raise CheckpointError(msg) from error
    largest = max(float(mixture.abs().max()), float(stems.abs().max()))
    return float(np.abs(exported - stems.numpy()).max()) / largest
