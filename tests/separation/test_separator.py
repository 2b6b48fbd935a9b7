import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch
from torch import Tensor, nn

from sfisep_core.audio.files import read_audio
from sfisep_core.errors import AudioFileError, CheckpointError, ConfigError
from sfisep_core.models.blocks.tcn import TCNConfig
from sfisep_core.models.contract import GainRule, SegmentRule, SeparationModel
from sfisep_core.models.inference.fused_tcn import FusedMaskNetwork
from sfisep_core.models.registry import build_model
from sfisep_core.models.sfi_conv_tasnet import SFIConvTasNet, SFIConvTasNetConfig
from sfisep_core.separation.methods import METHODS
from sfisep_core.separation.separator import Output, Separator
from sfisep_core.separation.settings import MethodName, MethodOptions, SeparationSettings
from tests.separation.divider import separated

Samples = npt.NDArray[np.float32]
STEMS = ("vocals", "drums", "bass", "other")


def small_model(
    *,
    gain_rule: GainRule = "mixture-consistent",
    trunk: str = "shared",
    num_filters: int = 32,
    normalizes_level: bool = False,
) -> SeparationModel:
    """Make a network with random weights whose masks lie around one quarter."""
    torch.manual_seed(0)
    tcn = {
        "bottleneck_channels": 8,
        "hidden_channels": 8,
        "num_layers": 2,
        "num_stacks": 1,
        "norm": "window",
        "norm_window": 21,
    }
    settings = {
        "sources": ["drums", "other", "bass", "vocals"],
        "num_filters": num_filters,
        "trunk": trunk,
        "mask": "free",
        "gain_rule": gain_rule,
        "normalizes_level": normalizes_level,
        "tcn": tcn,
    }
    model = build_model("sfi-conv-tasnet", settings)
    model.get_parameter("masker.conv_out.weight").data.mul_(0.02)
    return model


class Amplifier(SeparationModel):
    """Give stems of three times and of minus two times the mixture."""

    family = "amplifier"

    def __init__(self) -> None:
        super().__init__()
        self.config = None
        self.sources = ("solo", "vocals")
        self.native_rate = 8000
        self.gain_rule = "mixture-consistent"
        self.normalizes_level = False
        self.segments = SegmentRule(seconds=20, context_seconds=1, chunk_invariant=True)
        self.gains = nn.Parameter(torch.tensor([3.0, -2.0]))

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        del sample_rate
        return self.gains[:, None, None] * mixture.unsqueeze(1)


@pytest.fixture(scope="module")
def separator() -> Separator:
    return Separator(small_model(), device="cpu")


def noise(*shape: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


def sum_error_db(stems: dict[str, Samples], mixture: Samples) -> float:
    """Give what the sum of the stems differs by from the mixture, relative to it."""
    error = np.sum([stem.astype(np.float64) for stem in stems.values()], axis=0) - mixture
    power = np.square(error).sum() / np.square(mixture, dtype=np.float64).sum()
    return float(10 * np.log10(max(power, 1e-30)))


def level_db(signal: Samples, reference: Samples) -> float:
    return float(20 * np.log10(np.linalg.norm(signal) / np.linalg.norm(reference)))


@pytest.mark.slow
@pytest.mark.parametrize("rate", [44100, 22050, 11025, 44101, 8000])
@pytest.mark.parametrize("shape", [(7001,), (1, 3000), (2, 4410), (6, 1001)])
def test_stems_have_the_mixtures_shape_and_add_up(
    rate: int, shape: tuple[int, ...], separator: Separator
) -> None:
    mixture = noise(*shape)
    original = mixture.copy()
    result = separator.separate((mixture, rate))
    np.testing.assert_array_equal(mixture, original)
    assert result.sample_rate == rate
    assert tuple(result.stems) == STEMS  # the order for users, whatever the model's is
    for stem in result.stems.values():
        assert stem.shape == shape
        assert stem.dtype == np.float32
        assert np.isfinite(stem).all()
        assert level_db(stem, mixture) > -40  # not just silence and a residual
    assert sum_error_db(result.stems, mixture) < -100


@pytest.mark.parametrize("rate", [44100, 44101, 8000])
@pytest.mark.parametrize("frames", [0, 1, 2])
@pytest.mark.parametrize("channels", [None, 1, 2])
def test_hardly_any_samples(
    rate: int, frames: int, channels: int | None, separator: Separator
) -> None:
    if channels == 2 and frames == 1:
        frames = 3  # fewer samples than channels are refused
    mixture = noise(*([] if channels is None else [channels]), frames)
    result = separator.separate((mixture, rate))
    assert {stem.shape for stem in result.stems.values()} == {mixture.shape}
    np.testing.assert_allclose(sum(result.stems.values()), mixture, atol=1e-6)


@pytest.mark.parametrize("gain_rule", ["mixture-consistent", "least-squares"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rate", [44100, 8000])
def test_silence_in_silence_out(gain_rule: GainRule, method: MethodName, rate: int) -> None:
    model = small_model(gain_rule=gain_rule, normalizes_level=True)
    separator = Separator(model, SeparationSettings(method), device="cpu")
    result = separator.separate((np.zeros((2, 3000), dtype=np.float32), rate))
    for stem in result.stems.values():
        np.testing.assert_array_equal(stem, np.zeros((2, 3000)))


@pytest.mark.parametrize("trunk", ["shared", "per-source"])
def test_least_squares_stems_come_close_to_the_mixture(trunk: str) -> None:
    separator = Separator(
        small_model(gain_rule="least-squares", trunk=trunk, num_filters=64), device="cpu"
    )
    time = np.arange(16000) / 16000
    mixture = np.sin(2 * np.pi * np.array([[300], [700]]) * time).astype(np.float32)
    result = separator.separate((mixture, 16000))
    assert sum_error_db(result.stems, mixture) < -3
    with_gain = separator.separate((4 * mixture, 16000))  # gains follow the level
    for name, stem in result.stems.items():
        np.testing.assert_allclose(with_gain.stems[name] / 4, stem, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_segments_agree_with_the_whole() -> None:
    model = small_model()
    mixture = noise(2, 10 * 8000)
    whole, parts = (
        Separator(model, SeparationSettings(segment=segment), device="cpu").separate(
            (mixture, 8000)
        )
        for segment in (0.0, 0.5)
    )
    for name, stem in whole.stems.items():
        np.testing.assert_allclose(parts.stems[name], stem, atol=1e-6)


def test_channels_are_separated_on_their_own(separator: Separator) -> None:
    mixture = noise(3, 2000)
    together = separator.separate((mixture, 22050))
    alone = separator.separate((mixture[1], 22050))
    for name, stem in alone.stems.items():
        np.testing.assert_allclose(stem, together.stems[name][1], atol=1e-6)


@pytest.mark.parametrize("rate", [44100, 44101, 8000])
def test_other_rate_to_separate_at(rate: int, separator: Separator) -> None:
    mixture = noise(2, 5001)
    result = separator.separate((mixture, 16000), sample_rate=rate)
    assert result.sample_rate == rate
    frames = math.ceil(5001 * rate / 16000)
    assert {stem.shape for stem in result.stems.values()} == {(2, frames)}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floating_point_of_any_width(dtype: type[np.floating[Any]], separator: Separator) -> None:
    mixture = noise(1000).astype(dtype)
    mixture.flags.writeable = False
    result = separator.separate((mixture, 8000))
    assert result.stems["bass"].dtype == np.float32
    assert sum_error_db(result.stems, mixture.astype(np.float32)) < -100


def test_array_that_is_not_contiguous(separator: Separator) -> None:
    frames_first = noise(1000, 2)
    result = separator.separate((frames_first.T[:, ::-1], 8000))
    expected = separator.separate((np.ascontiguousarray(frames_first.T[:, ::-1]), 8000))
    np.testing.assert_array_equal(result.stems["drums"], expected.stems["drums"])


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(10, dtype=np.int16), "got int16 of shape (10,)"),
        (np.zeros(10, dtype=bool), "got bool of shape (10,)"),
        (np.zeros(10, dtype=complex), "got complex128 of shape (10,)"),
        ([1, 2, 3], "got int64 of shape (3,)"),
        (np.zeros((1, 2, 3)), "got float64 of shape (1, 2, 3)"),
        (np.float32(1.0), "got float32 of shape ()"),
        (np.array([0.0, np.nan]), "found NaN or Inf"),
        (np.array([0.0, -np.inf]), "found NaN or Inf"),
        (np.array([0.0, 1e39]), "found NaN or Inf"),  # more than float32
    ],
)
def test_unusable_samples(samples: Any, message: str, separator: Separator) -> None:
    with pytest.raises(ConfigError) as raised:
        separator.separate((samples, 8000))
    assert str(raised.value).startswith("samples: expected ")
    remedy = "mend or mute them first"
    if message.startswith("got"):
        remedy = "pass one recording at a time"
    if "int" in message:
        remedy = "pass integers of 16 bits as x / 32768"
    if "bool" in message or "complex" in message:
        remedy = "pass amplitudes as floats"
    assert str(raised.value).endswith(f"{message}: {remedy}")


@pytest.mark.parametrize("rate", [0, -8000, 3999, 384001, 44100.5, math.nan, math.inf, "44100"])
def test_rates_out_of_range(rate: Any, separator: Separator) -> None:
    message = (
        f"sampling frequency {rate!r} Hz: expected a whole number from 4000 to 384000 Hz; resample "
        "the recording first"
    )
    for arguments in ({"source": (noise(10), rate)}, {"source": (noise(10), 8000)}):
        target = None if arguments["source"][1] is rate else rate
        with pytest.raises(ConfigError) as raised:
            separator.separate(arguments["source"], sample_rate=target)
        assert str(raised.value) == message


@pytest.mark.slow
@pytest.mark.parametrize("rate", [4000, 384000])
def test_extreme_rates(rate: int, separator: Separator) -> None:
    mixture = noise(2, rate // 4)
    assert sum_error_db(separator.separate((mixture, rate)).stems, mixture) < -100


@pytest.mark.parametrize("rate", [44100.0, np.float64(44100), np.int32(44100)])
def test_whole_rate_of_another_type(rate: Any, separator: Separator) -> None:
    result = separator.separate((noise(500), rate), sample_rate=rate)
    assert (result.sample_rate, type(result.sample_rate)) == (44100, int)


def test_settings_out_of_range() -> None:
    model = small_model()
    expected = "native, resample, soxr, noisy-kernel, post-noise, direct, super-resolve"
    with pytest.raises(ConfigError, match=rf"^method 'directly': expected one of {expected}$"):
        SeparationSettings(method="directly")  # type: ignore[arg-type]
    for segment in (-1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match=r"^segment: expected seconds of 0 "):
            SeparationSettings(segment=segment)
    for device in ("nowhere", "mps", "cuda:99"):
        with pytest.raises(ConfigError, match=f"^device '?{device}'?: "):
            Separator(model, device=device)
    with pytest.raises(CheckpointError, match=r"^model nothing: expected a bundled model "):
        Separator("nothing", device="cpu")


def test_method_and_its_options_arrive() -> None:
    mixture, options = noise(2, 1000), MethodOptions(post_noise_level=0.5, seed=3)
    settings = SeparationSettings("post-noise", options=options)
    separator = Separator(small_model(), settings, device="cpu")
    stems = separator.separate((mixture, 8000)).stems
    expected = separated(
        separator.model, mixture, method="post-noise", sample_rate=8000, options=options
    )
    for name, stem in zip(separator.model.sources, expected, strict=True):
        np.testing.assert_array_equal(stems[name], stem)


def test_repr_is_one_short_line() -> None:
    shown = repr(Separator(small_model(), device="cpu"))
    assert shown == "<Separator of vocals, drums, bass, other: native, on cpu>"


def test_model_is_put_into_evaluation_mode() -> None:
    assert not Separator(small_model().train(), device="cpu").model.training


# The published program truncates the hop at these rates, so that its frames are late by 0.2 or 2 %
# of all the time that has passed. Impulses at equal phase of the hop have to come out alike here.
FIRST, LATER = 0.6, 60.6  # seconds


def shift_between(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Measure by how many samples `other` is later: the slope of the cross-spectrum's phase."""
    cross = np.fft.rfft(one.astype(np.float64)).conj() * np.fft.rfft(other.astype(np.float64))
    omega = 2 * np.pi * np.fft.rfftfreq(len(one))
    weights = np.abs(cross)
    # Few samples of shift: the phase stays below pi where there is energy.
    slope = (weights * omega * np.angle(cross)).sum() / (weights * omega**2).sum()
    return float(-slope)


@pytest.mark.parametrize("shift", [0.0, 1 / 128, -1 / 64, 0.4])
def test_shifts_are_measured_to_a_thousandth_of_a_sample(shift: float) -> None:
    position = np.arange(-200, 200)
    one, other = (np.sinc((position - d) / 2) * np.hanning(400) for d in (0.0, shift))
    assert shift_between(one, other) == pytest.approx(shift, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [44100, 22050, 11025])
@pytest.mark.parametrize("segment", [None, 0.0])
def test_timing_does_not_drift(rate: int, segment: float | None) -> None:
    # Masks of one quarter everywhere: every stem is a band-passed copy of the mixture.
    model = small_model(gain_rule="least-squares", num_filters=64)
    nn.init.zeros_(model.get_parameter("masker.conv_out.weight"))
    places = [round(seconds * rate) for seconds in (FIRST, LATER)]
    assert (places[1] - places[0]) % 441 == 0  # four hops of 2.5 ms at 44.1 kHz, and so on
    mixture = np.zeros(places[1] + rate + 7, dtype=np.float32)  # the last segment starts oddly
    mixture[places] = 1.0
    separator = Separator(model, SeparationSettings(segment=segment), device="cpu")
    stem = separator.separate((mixture, rate)).stems["bass"]
    reach = rate // 50
    first, later = (stem[place - reach : place + reach] for place in places)
    assert np.abs(first).max() > 0.01
    assert np.abs(shift_between(first, later)) < 1 / 64


@pytest.mark.parametrize("rate", [44100, 22050, 11025])
def test_frames_keep_time(rate: int) -> None:
    model = small_model()
    assert isinstance(model, SFIConvTasNet)
    place = round(LATER * rate)
    signal = torch.zeros(1, 1, place + rate)
    signal[..., place] = 1.0
    with torch.inference_mode():
        energy = model.encoder(signal, sample_rate=rate)[0].square().sum(dim=0).double()
    found = float((energy * torch.arange(len(energy))).sum() / energy.sum())
    # Frame m is centred at (m + 1/2) / 400 s; a hop of 110 samples in place of 110.25 would give
    # 24296 here instead of 24240.
    assert found == pytest.approx(400 * place / rate - 0.5, abs=0.1)


def write(path: Path, mixture: Samples, rate: int, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, mixture.T, rate, subtype=subtype)
    return path


@pytest.mark.parametrize(
    ("container", "encoding", "subtype", "step"),
    [
        ("wav", "int16", "PCM_16", 2**-15),
        ("wav", "int24", "PCM_24", 2**-23),
        ("wav", "float32", "FLOAT", 2**-24),
        ("flac", "int16", "PCM_16", 2**-15),
        ("flac", "int24", "PCM_24", 2**-23),
    ],
)
def test_files(
    container: Any, encoding: Any, subtype: str, step: float, separator: Separator, tmp_path: Path
) -> None:
    mixture = noise(2, 4001)
    path = write(tmp_path / "song.wav", mixture, 44100)
    progress: list[tuple[float, float]] = []
    result = separator.separate_file(
        path,
        out_dir=tmp_path / "new/folder",
        output=Output(container=container, encoding=encoding),
        progress=lambda done, total: progress.append((done, total)),
    )
    assert (result.path, result.sample_rate, result.channels) == (path, 44100, 2)
    assert (result.frames, result.seconds, result.gain_db) == (4001, 4001 / 44100, 0.0)
    assert result.elapsed > 0
    assert progress[-1] == (4001 / 44100, 4001 / 44100)
    assert result.stems == {n: tmp_path / f"new/folder/{n}.{container}" for n in STEMS}
    assert sorted((tmp_path / "new/folder").iterdir()) == sorted(result.stems.values())
    expected = separator.separate((mixture, 44100))
    for name, file in result.stems.items():
        info = soundfile.info(file)
        assert (info.samplerate, info.channels, info.frames) == (44100, 2, 4001)
        assert (info.format, info.subtype) == (container.upper(), subtype)
        np.testing.assert_allclose(read_audio(file)[0], expected.stems[name], atol=step)


def test_file_and_array_give_the_same(separator: Separator, tmp_path: Path) -> None:
    mixture = noise(1, 3000)
    path = write(tmp_path / "song.wav", mixture, 11025)
    from_path, from_text = separator.separate(path), separator.separate(str(path))
    expected = separator.separate((mixture, 11025))
    for name in STEMS:
        np.testing.assert_array_equal(from_path.stems[name], expected.stems[name])
        np.testing.assert_array_equal(from_text.stems[name], expected.stems[name])


@pytest.mark.parametrize(("rate", "target"), [(16000, 44100), (44101, 8000), (8000, 11025)])
def test_file_at_another_rate(rate: int, target: int, separator: Separator, tmp_path: Path) -> None:
    path = write(tmp_path / "song.wav", noise(2, 3001), rate)
    result = separator.separate_file(path, out_dir=tmp_path / "out", sample_rate=target)
    assert (result.sample_rate, result.frames) == (target, math.ceil(3001 * target / rate))
    for file in result.stems.values():
        info = soundfile.info(file)
        assert (info.samplerate, info.frames) == (target, result.frames)


@pytest.mark.parametrize("frames", [0, 1])
def test_file_with_hardly_any_samples(frames: int, separator: Separator, tmp_path: Path) -> None:
    path = write(tmp_path / "song.wav", noise(2, frames), 44100)
    result = separator.separate_file(
        path, out_dir=tmp_path / "out", output=Output(container="flac")
    )
    assert {read_audio(file)[0].shape for file in result.stems.values()} == {(2, frames)}


@pytest.fixture
def loud(tmp_path: Path) -> tuple[Separator, Path, Samples]:
    """A separator whose stems exceed full scale, three and two times, and its input."""
    mixture = noise(2, 2000)
    mixture[1, 100] = 0.75
    return (
        Separator(Amplifier(), device="cpu"),
        write(tmp_path / "song.wav", mixture, 8000),
        mixture,
    )


@pytest.mark.parametrize("encoding", ["int16", "int24"])
def test_rescaling_turns_all_stems_down_alike(
    encoding: Any, loud: tuple[Separator, Path, Samples], tmp_path: Path
) -> None:
    separator, path, mixture = loud
    result = separator.separate_file(
        path, out_dir=tmp_path / "out", output=Output(encoding=encoding)
    )
    gain = 32767 / 32768 / 2.25
    assert result.gain_db == pytest.approx(20 * math.log10(gain), abs=1e-4)
    assert list(result.stems) == ["vocals", "solo"]
    stems = {name: read_audio(file)[0] for name, file in result.stems.items()}
    step = 2.0**-15
    np.testing.assert_allclose(stems["solo"], 3 * gain * mixture, atol=step)
    np.testing.assert_allclose(stems["vocals"], -2 * gain * mixture, atol=step)
    np.testing.assert_allclose(sum(stems.values()), gain * mixture, atol=2 * step)
    assert np.abs(stems["solo"]).max() == 32767 / 32768


@pytest.mark.parametrize("clip_mode", ["clamp", "none"])
def test_other_clip_modes_cut_peaks_off(
    clip_mode: Any, loud: tuple[Separator, Path, Samples], tmp_path: Path
) -> None:
    separator, path, mixture = loud
    result = separator.separate_file(
        path, out_dir=tmp_path / "out", output=Output(encoding="int16", clip_mode=clip_mode)
    )
    assert result.gain_db == 0.0
    solo = read_audio(result.stems["solo"])[0]
    np.testing.assert_allclose(solo, np.clip(3 * mixture, -1, 1), atol=2.0**-15)


def test_floating_point_output_is_not_touched(
    loud: tuple[Separator, Path, Samples], tmp_path: Path
) -> None:
    separator, path, mixture = loud
    result = separator.separate_file(
        path, out_dir=tmp_path / "out", output=Output(encoding="float32")
    )
    assert result.gain_db == 0.0
    np.testing.assert_allclose(read_audio(result.stems["solo"])[0], 3 * mixture, rtol=1e-6)


@pytest.mark.parametrize("frames", [0, 2000])
def test_no_gain_where_nothing_clips(frames: int, tmp_path: Path) -> None:
    mixture = np.full((1, frames), 1 / 3, dtype=np.float32)
    path = write(tmp_path / "song.wav", mixture, 8000)
    result = Separator(Amplifier(), device="cpu").separate_file(path, out_dir=tmp_path / "out")
    assert result.gain_db == 0.0


def test_error_on_one_stem_leaves_none(separator: Separator, tmp_path: Path) -> None:
    path = write(tmp_path / "song.wav", noise(2, 2000), 8000)
    out = tmp_path / "out"
    (out / "bass.wav").mkdir(parents=True)  # in the way of the third stem
    (out / "vocals.wav").write_text("of an earlier run")
    with pytest.raises(AudioFileError, match=r"bass\.wav': .* found a folder of that name"):
        separator.separate_file(path, out_dir=out)
    assert sorted(file.name for file in out.iterdir()) == ["bass.wav", "vocals.wav"]
    assert (out / "vocals.wav").read_text() == "of an earlier run"


def test_unusable_output_is_noticed_before_the_work(
    separator: Separator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: object, **__: object) -> None:
        pytest.fail("separated for nothing")

    monkeypatch.setattr(separator, "separate", work)
    path = write(tmp_path / "song.wav", noise(9, 100), 44100)
    (tmp_path / "file").touch()
    with pytest.raises(AudioFileError, match=f"folder {tmp_path / 'file/out'}: "):
        separator.separate_file(path, out_dir=tmp_path / "file/out")
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match=r"1 to 8 channels in FLAC, got 9; choose WAV$"):
        separator.separate_file(path, out_dir=out, output=Output(container="flac"))
    with pytest.raises(ConfigError, match=r"expected int16 or int24 in FLAC, got float32"):
        separator.separate_file(
            path, out_dir=out, output=Output(container="flac", encoding="float32")
        )
    with pytest.raises(ConfigError, match=r"^sampling frequency 0 Hz: expected a whole number"):
        separator.separate_file(path, out_dir=out, sample_rate=0)
    assert not out.exists()


def test_unusable_input_leaves_no_folder(separator: Separator, tmp_path: Path) -> None:
    mixture = noise(2, 1000)
    mixture[1, 500] = np.nan
    path = write(tmp_path / "song.wav", mixture, 8000)
    for source, message in ((path, "found nan at 0.0625? s"), (tmp_path / "x.wav", "no such file")):
        with pytest.raises(AudioFileError, match=message):
            separator.separate_file(source, out_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_bundled_default_model_separates() -> None:
    separator = Separator("default", device="cpu")
    assert separator.sources == STEMS
    mixture = noise(2, 11025)
    result = separator.separate((mixture, 11025))
    assert {stem.shape for stem in result.stems.values()} == {(2, 11025)}
    assert sum_error_db(result.stems, mixture) < -60


@pytest.mark.parametrize("rate", ["8000", None, True, 8000.5, 10**6])
def test_rates_that_are_no_rates_are_refused(separator: Separator, rate: object) -> None:
    with pytest.raises(ConfigError, match=r"^sampling frequency .* expected a whole number"):
        separator.separate((np.zeros(10, dtype=np.float32), rate))  # type: ignore[arg-type]


def test_absurd_samples_are_refused(separator: Separator, tmp_path: Path) -> None:
    mixture = np.zeros((2, 1000), dtype=np.float32)
    mixture[1, 500] = 1e12
    assert np.isfinite(separator.separate((mixture, 8000)).stems["vocals"]).all()
    mixture[1, 500] = -1e13
    with pytest.raises(ConfigError, match=r"finite values of at most 1e\+12 \(full scale is 1\)"):
        separator.separate((mixture, 8000))
    path = write(tmp_path / "song.wav", mixture, 8000)
    with pytest.raises(AudioFileError, match=r"song.wav: expected samples of at most 1e\+12"):
        separator.separate_file(path, out_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_array_without_channels_is_refused(separator: Separator) -> None:
    with pytest.raises(ConfigError, match=r"^samples: .*got float32 of shape \(0, 10\)"):
        separator.separate((np.zeros((0, 10), dtype=np.float32), 8000))


def test_networks_are_fused_for_separation() -> None:
    torch.manual_seed(0)
    tcn = TCNConfig(8, 8, num_layers=2, num_stacks=1, norm="batch")
    model = SFIConvTasNet(
        SFIConvTasNetConfig(
            num_filters=16,
            tcn=tcn,
            mask="free",
            gain_rule="mixture-consistent",
            normalizes_level=False,
        )
    ).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    separator = Separator(model)
    assert any(isinstance(module, FusedMaskNetwork) for module in separator.model.modules())
    mixture = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    stems = separator.separate((mixture, 8000)).stems
    with torch.no_grad():
        expected = model(torch.from_numpy(mixture)[None, None], sample_rate=8000)[0, :, 0]
    for name, stem in zip(model.sources, expected.numpy(), strict=True):
        np.testing.assert_allclose(stems[name], stem, atol=1e-5)
