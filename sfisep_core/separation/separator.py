"""The Python API: separate files and arrays."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from sfisep_core.audio.file_reader import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from sfisep_core.audio.files import (
    AudioWriter,
    Encoding,
    check_output_format,
    read_audio,
    read_info,
)
from sfisep_core.audio.resample import resample
from sfisep_core.devices import find_device
from sfisep_core.errors import AudioFileError, ConfigError
from sfisep_core.models.contract import DEFAULT_SOURCES, SeparationModel
from sfisep_core.pretrained.resolve import resolve_model
from sfisep_core.results import SeparatedFile
from sfisep_core.separation.methods import MethodName, Progress, check_method, run_method
from sfisep_core.separation.rate_changes import DEFAULT_OPTIONS, MethodOptions

__all__ = ["ClipMode", "SeparatedFile", "Separation", "Separator"]

ClipMode = Literal["rescale", "clamp", "none"]

# The largest value that 16-bit samples hold, so that a rescaled peak is not clipped.
_FULL_SCALE = 32767 / 32768


@dataclass(frozen=True)
class Separation:
    """Stems of one recording.

    Attributes:
        stems: Samples by stem, float32, each of the mixture's shape.
        sample_rate: Of the stems, in Hz.
    """

    stems: dict[str, npt.NDArray[np.float32]]
    sample_rate: int


class Separator:
    """Separate recordings at whatever sampling frequency they have.

    Args:
        model: Name of a model, path of a model file, or a model.
        device: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:1", ...
        method: "native" runs the model at the recording's rate, "resample" converts to the
            model's training rate and back; the others are baselines (`separation.methods`).
        segment: Seconds that are separated at once; 0 = everything, None = the model's own choice.
        method_options: Noise levels and seed of the baselines that have any.

    Raises:
        CheckpointError: The model cannot be found or read.
        ConfigError: A device that is not there, or a setting out of range.

    >>> separator = Separator("default", device="cpu")
    >>> mixture = np.zeros((2, 8000), dtype=np.float32)  # one second of stereo silence at 8 kHz
    >>> result = separator.separate((mixture, 8000))
    >>> {name: stem.shape for name, stem in result.stems.items()}
    {'vocals': (2, 8000), 'drums': (2, 8000), 'bass': (2, 8000), 'other': (2, 8000)}
    """

    def __init__(
        self,
        model: str | Path | SeparationModel = "default",
        *,
        device: str = "auto",
        method: MethodName = "native",
        segment: float | None = None,
        method_options: MethodOptions = DEFAULT_OPTIONS,
    ) -> None:
        check_method(method)
        if segment is not None and not 0 <= segment < float("inf"):
            msg = f"segment: expected seconds of 0 (the whole signal) or more, got {segment}"
            raise ConfigError(msg)
        self._method: MethodName = method
        self._segment = segment
        self._method_options = method_options
        self.device = find_device(device)
        found = model if isinstance(model, SeparationModel) else resolve_model(str(model))
        self.model = found.to(self.device).eval().for_inference()

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the stems, in the order in which they are returned."""
        known = [name for name in DEFAULT_SOURCES if name in self.model.sources]
        return (*known, *(name for name in self.model.sources if name not in known))

    def separate(
        self,
        source: str | Path | tuple[npt.ArrayLike, int],
        *,
        sample_rate: int | None = None,
        progress: Progress | None = None,
    ) -> Separation:
        """Separate a file or an array.

        Args:
            source: Path of an audio file, or (samples, rate in Hz); samples are floating-point of
                shape (time,) or (channel, time) and are not changed.
            sample_rate: Rate in Hz to separate at (the input is resampled to it first); None = the
                input's own.
            progress: Called with seconds done and seconds in all.

        Returns:
            The stems, each of the input's shape (of the resampled input's, with `sample_rate`).

        Raises:
            AudioFileError: The file cannot be read.
            ConfigError: Samples or rate are not usable.
        """
        if isinstance(source, tuple):
            audio, input_rate = _checked_array(source[0]), _checked_rate(source[1])
        else:
            audio, input_rate = read_audio(Path(source))
        target_rate = input_rate if sample_rate is None else _checked_rate(sample_rate)
        mixture = resample(np.atleast_2d(audio), orig_rate=input_rate, target_rate=target_rate)
        estimates = run_method(
            self._method,
            self.model,
            mixture,
            sample_rate=target_rate,
            segment=self._segment,
            options=self._method_options,
            progress=progress,
        )
        shape = (*audio.shape[:-1], mixture.shape[-1])
        by_name = dict(zip(self.model.sources, estimates, strict=True))
        return Separation(
            stems={name: by_name[name].reshape(shape) for name in self.sources},
            sample_rate=target_rate,
        )

    def separate_file(
        self,
        path: str | Path,
        *,
        out_dir: str | Path,
        sample_rate: int | None = None,
        container: Literal["wav", "flac"] = "wav",
        encoding: Encoding = "int24",
        clip_mode: ClipMode = "rescale",
        progress: Progress | None = None,
    ) -> SeparatedFile:
        """Separate a file into files `<out_dir>/<stem>.<container>`.

        Args:
            path: Audio file.
            out_dir: Folder for the stems; made if missing.
            sample_rate: Rate in Hz to separate and write at; None = the file's own.
            container: "wav" or "flac".
            encoding: "int16", "int24" or "float32" (WAV only).
            clip_mode: What to do when a stem exceeds full scale in an integer encoding: "rescale"
                turns all stems down alike, "clamp" cuts peaks off, "none" leaves them to the
                encoder, which cuts them off too. Floating-point output is never touched.
            progress: Called with seconds done and seconds in all.

        Returns:
            What was written.

        Raises:
            AudioFileError: A file cannot be read or written; no stem is left half written.
            ConfigError: The format cannot hold this rate or channel count.
        """
        started = time.monotonic()
        path, out_dir = Path(path), Path(out_dir)
        info = read_info(path)
        target_rate = info.sample_rate if sample_rate is None else _checked_rate(sample_rate)
        check_output_format(container, encoding, info.channels, target_rate)
        mixture = read_audio(path)
        _make_folder(out_dir)
        result = self.separate(mixture, sample_rate=target_rate, progress=progress)
        gain = 1.0
        if encoding != "float32" and clip_mode == "rescale":
            peak = max(float(np.abs(s).max(initial=0.0)) for s in result.stems.values())
            gain = _FULL_SCALE / peak if peak > 1.0 else 1.0
        files = {name: out_dir / f"{name}.{container}" for name in result.stems}
        channels, frames = next(iter(result.stems.values())).shape
        # No stem gets its final name before all are complete: an error on one leaves none behind.
        with ExitStack() as stack:
            for name, stem in result.stems.items():
                writer = stack.enter_context(
                    AudioWriter(
                        files[name],
                        sample_rate=target_rate,
                        channels=channels,
                        encoding=encoding,
                        frames=frames,
                    )
                )
                writer.write(stem if gain == 1.0 else stem * np.float32(gain))
                writer.finish()
        return SeparatedFile(
            path=path,
            stems=files,
            sample_rate=target_rate,
            channels=channels,
            frames=frames,
            seconds=frames / target_rate,
            elapsed=time.monotonic() - started,
            gain_db=20 * float(np.log10(gain)),
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = (
            f"output folder {folder}: expected a folder that can be made and written to, got "
            f"{error.strerror}: choose another --out"
        )
        raise AudioFileError(msg) from error


def _checked_array(samples: npt.ArrayLike) -> npt.NDArray[np.float32]:
    audio = np.asarray(samples)
    if (
        audio.ndim not in (1, 2)
        or not np.issubdtype(audio.dtype, np.floating)
        or (audio.ndim == 2 and audio.shape[0] == 0)
    ):
        msg = (
            "samples: expected floating-point values of shape (time,) or (channel, time), got "
            f"{audio.dtype} of shape {audio.shape}"
        )
        raise ConfigError(msg)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes Inf, and is refused
        audio = audio.astype(np.float32, copy=False)
    if not np.isfinite(audio).all():
        msg = "samples: expected finite values, found NaN or Inf: mend or mute them first"
        raise ConfigError(msg)
    return audio


def _checked_rate(rate: float) -> int:
    is_number = isinstance(rate, int | float | np.number)
    if not (is_number and MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE and rate == int(rate)):
        msg = (
            f"sampling frequency {rate} Hz: expected a whole number from {MIN_SAMPLE_RATE} to "
            f"{MAX_SAMPLE_RATE} Hz; resample the recording first"
        )
        raise ConfigError(msg)
    return int(rate)
