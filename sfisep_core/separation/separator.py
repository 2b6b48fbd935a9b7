"""The Python API: separate files and arrays."""

import copy
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sfisep_core.audio.resample import resample
from sfisep_core.audio.stores import MemoryStore, Store, Stores, read_all
from sfisep_core.devices import find_device
from sfisep_core.errors import ConfigError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.sources import in_user_order
from sfisep_core.pretrained.address import member_names
from sfisep_core.pretrained.identity import identify_model
from sfisep_core.pretrained.resolve import resolve_model
from sfisep_core.results import SeparatedFile
from sfisep_core.separation.checks import Recording, check_block, check_rate, read_recording
from sfisep_core.separation.file_separation import separate_file
from sfisep_core.separation.methods import check_method, separate_signal
from sfisep_core.separation.output import DEFAULT_OUTPUT, Output
from sfisep_core.separation.overlap_add import compile_model
from sfisep_core.separation.parts import stored_sources
from sfisep_core.separation.plan import check_same_sources
from sfisep_core.separation.result import Separation
from sfisep_core.separation.settings import DEFAULT_SETTINGS, Progress, SeparationSettings
from sfisep_core.separation.streaming import separate_stream, stream_latency

__all__ = ["Output", "SeparatedFile", "Separation", "SeparationSettings", "Separator"]


class Separator:
    """Separates recordings at their own sampling frequency.

    Args:
        model: Name, path or address of a model, or a model. A+B averages the stems of both.
        settings: Method, and how recordings are cut and computed.
        device: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:1", ...
        compiled: Compile the network with `torch.compile` first. This takes about a minute per
            separator, and is worthwhile for hours of music on GPUs. On CPUs it needs a C++
            compiler.

    Raises:
        CheckpointError: The model is missing or cannot be read.
        ConfigError: A device is not available, a method cannot run with the installed packages, or
            the network cannot be compiled.

    Examples:
        >>> separator = Separator("default", device="cpu")
        >>> mixture = np.zeros((2, 8000), dtype=np.float32)  # one second of stereo silence at 8 kHz
        >>> result = separator.separate((mixture, 8000))
        >>> {name: stem.shape for name, stem in result.stems.items()}
        {'vocals': (2, 8000), 'drums': (2, 8000), 'bass': (2, 8000), 'other': (2, 8000)}
    """

    def __init__(
        self,
        model: str | Path | SeparationModel = "default",
        settings: SeparationSettings = DEFAULT_SETTINGS,
        *,
        device: str = "auto",
        compiled: bool = False,
    ) -> None:
        check_method(settings.method)
        self.settings = settings
        self.device = find_device(device)
        if settings.precision == "fp16" and self.device.type == "cpu":
            msg = "precision fp16: CPUs compute it slowly and with gaps: pass bf16, or a GPU"
            raise ConfigError(msg)
        self._names = () if isinstance(model, SeparationModel) else member_names(str(model))
        loaded = {name: resolve_model(name) for name in self._names}
        if loaded:
            check_same_sources({name: member.sources for name, member in loaded.items()})
        members = [model] if isinstance(model, SeparationModel) else loaded.values()
        self.models = tuple(self._prepared(member, compiled=compiled) for member in members)

    def __repr__(self) -> str:
        """Show stems, method and device, without the layers of the network."""
        return f"<Separator of {', '.join(self.sources)}: {self.settings.method}, on {self.device}>"

    def _prepared(self, model: SeparationModel, *, compiled: bool) -> SeparationModel:
        """Return a model on its device, ready to separate."""
        model = model.to(self.device).eval().for_inference(compiled=compiled)
        if compiled:
            model = copy.deepcopy(model)  # do not change the caller's model
            compile_model(model, self.settings)
        return model

    @property
    def model(self) -> SeparationModel:
        """The model, or the first of several."""
        return self.models[0]

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the stems, in the order in which they are returned."""
        return in_user_order(self.model.sources)

    def separate(
        self,
        source: Recording,
        *,
        sample_rate: int | None = None,
        progress: Progress | None = None,
    ) -> Separation:
        """Separate a file or an array.

        Args:
            source: Path of an audio file, or (samples, sampling frequency in Hz). Samples are
                floating-point of shape (time,) or (channel, time), full scale at 1, and are not
                changed; there are at most 64 channels, and no more than samples in each.
            sample_rate: Rate in Hz to separate at (the input is resampled to it first); None = the
                input's own.
            progress: Called with seconds done and total seconds.

        Returns:
            The stems, each with the shape of the input (of the resampled input, with
            `sample_rate`).

        Raises:
            AudioFileError: The file cannot be read.
            ConfigError: Samples or rate are invalid, or an array came without its rate.
        """
        audio, input_rate = read_recording(source)
        target_rate = input_rate if sample_rate is None else check_rate(sample_rate)
        mixture = resample(np.atleast_2d(audio), orig_rate=input_rate, target_rate=target_rate)
        estimates = read_all(
            separate_signal(
                self.models,
                MemoryStore(mixture),
                sample_rate=target_rate,
                settings=self.settings,
                progress=progress,
            )
        )
        shape = (*audio.shape[:-1], mixture.shape[-1])
        by_name = dict(zip(self.model.sources, estimates, strict=True))
        return Separation(
            stems={name: by_name[name].reshape(shape) for name in self.sources},
            sample_rate=target_rate,
            mixture=_own(mixture, source).reshape(shape),
        )

    def stream(
        self, blocks: Iterable[npt.ArrayLike], *, sample_rate: int, segment: float = 1.0
    ) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
        """Separate a signal while it arrives, at its own sampling frequency.

        The stems equal those of the whole signal with an error below -60 dB, and are delayed by
        `stream_latency`. Only for chunk-invariant, mixture-consistent models, such as the bundled
        ones.

        Args:
            blocks: Floating-point samples of shape (time,) or (channel, time), any length each;
                they are not changed.
            sample_rate: Hz.
            segment: Seconds between two windows, above 0: a smaller value reduces latency and needs
                more computation.

        Yields:
            Samples by stem, shape (time,) or (channel, time) like the blocks; together they are as
            long as the signal.

        Raises:
            ConfigError: Samples or rate are not usable, blocks differ in their channels, or the
                model does not support streaming.

        Examples:
            >>> separator = Separator("default", device="cpu")
            >>> blocks = (np.zeros((2, 800), dtype=np.float32) for _ in range(100))  # ten seconds
            >>> sum(stems["bass"].shape[-1] for stems in separator.stream(blocks, sample_rate=8000))
            80000
        """
        rate = check_rate(sample_rate)
        if self.settings.method != "native":
            msg = f"method {self.settings.method}: only native can separate a stream"
            raise ConfigError(msg)
        if len(self.models) > 1 or self.settings.shifts > 1:
            msg = "stream: expected one model without shifts: several runs cannot keep in step"
            raise ConfigError(msg)
        leading: tuple[int, ...] | None = None

        def checked() -> Iterator[npt.NDArray[np.float32]]:
            nonlocal leading
            for block in blocks:
                audio = check_block(block)
                leading = audio.shape[:-1] if leading is None else leading
                if audio.shape[:-1] != leading:
                    msg = (
                        f"blocks: expected the channels of the first, {_channels(leading)}, got "
                        f"{_channels(audio.shape[:-1])}"
                    )
                    raise ConfigError(msg)
                # A copy: callers may reuse an array while its samples still wait for a window.
                yield np.array(np.atleast_2d(audio), order="C")

        for stems in separate_stream(self.model, checked(), sample_rate=rate, segment=segment):
            assert leading is not None
            by_name = dict(zip(self.model.sources, stems, strict=True))
            yield {name: by_name[name].reshape(*leading, stems.shape[-1]) for name in self.sources}

    def stream_latency(self, *, sample_rate: int, segment: float = 1.0) -> float:
        """Return the maximum delay of `stream` in seconds, without computing time."""
        return stream_latency(self.model, sample_rate=sample_rate, segment=segment)

    def separate_file(
        self,
        path: str | Path,
        *,
        out_dir: str | Path,
        track: str | None = None,
        sample_rate: int | None = None,
        output: Output = DEFAULT_OUTPUT,
        progress: Progress | None = None,
    ) -> SeparatedFile:
        """Separate a file of any length into files, `<out_dir>/<stem>.wav` unless `output` differs.

        Args:
            path: Audio file.
            out_dir: Folder for the stems; created if missing. Temporary samples are on the same
                disk.
            track: Value of {track} in `output.filename`; None = the file's name without suffix.
            sample_rate: Rate in Hz to separate and write at; None = the file's own.
            output: What is written, and how.
            progress: Called with seconds done and total seconds.

        Returns:
            The written files.

        Raises:
            AudioFileError: A file cannot be read or written; no incomplete stem is left.
            ConfigError: The format does not support this rate or channel count, or the model has no
                such stem.
            DeviceError: Not enough memory, even for short segments.
        """

        def separate(mixture: Store, *, stores: Stores, sample_rate: int) -> Store:
            return separate_signal(
                self.models,
                mixture,
                sample_rate=sample_rate,
                settings=self.settings,
                stores=stores,
                progress=progress,
            )

        path = Path(path)
        return separate_file(
            path,
            files=output.files(track or path.stem, Path(out_dir), self.sources),
            sources=self.model.sources,
            stored_sources=self._stored_sources(),
            sample_rate=None if sample_rate is None else check_rate(sample_rate),
            output=output,
            provenance=self._provenance() if output.tags else "",
            separate=separate,
        )

    def _stored_sources(self) -> tuple[int, ...]:
        """Return the numbers of sources of all stores that a separation needs at once."""
        largest = max(map(stored_sources, self.models), key=sum)
        several = len(self.models) * self.settings.shifts > 1
        return (len(self.sources), *largest) if several else largest

    def _provenance(self) -> str:
        """Describe program and model for the tags of stems."""
        identities = map(identify_model, self._names)
        model = " + ".join(f"{known.label}, sha256 {known.sha256}" for known in identities)
        model = model or f"of the family {self.model.family}"
        return f"sfisep {version('sfisep')}, model {model}"


def _own(mixture: npt.NDArray[np.float32], source: Recording) -> npt.NDArray[np.float32]:
    """Return the mixture, copied if it is the caller's array, which may be overwritten."""
    shared = isinstance(source, tuple) and np.may_share_memory(mixture, np.asarray(source[0]))
    return mixture.copy() if shared else mixture


def _channels(leading: tuple[int, ...]) -> str:
    """Write the channels of an array whose last axis is time."""
    return str(leading[0]) if leading else "none (shape (time,))"
