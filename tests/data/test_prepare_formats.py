"""Stems that are summed, given mixtures, and formats of the prepared files."""

import hashlib
import logging
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from sfisep_core.audio.files import read_audio
from sfisep_core.data.layouts import STEMS
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset

RATE = 8000
FRAMES = RATE + 7


def noise(seed: int, *, level: int = 4000) -> npt.NDArray[np.int16]:
    rng = np.random.default_rng(seed)
    return rng.integers(-level, level, (FRAMES, 2), dtype=np.int16)


def write(folder: Path, **seeds: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in seeds.items():
        soundfile.write(folder / f"{name}.wav", noise(seed), RATE)


def write_track(folder: Path) -> None:
    write(folder, vocals=1, drums=2, bass=3, other=4)


def read(path: Path) -> npt.NDArray[np.int16]:
    samples, _ = soundfile.read(path, dtype="int16")
    return np.asarray(samples)


def test_mapped_files_are_summed(tmp_path: Path) -> None:
    write(tmp_path / "in/a", lead=1, backing=2, choir=3, drums=4, bass=5, guitar=6, piano=7)
    write(tmp_path / "in/b", lead=11, drums=14, bass=15, other=18, piano=17)
    stem_map = ["vocals=lead,backing,choir", "other=guitar,piano,other"]
    tracks = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out", stem_map=stem_map)
    ).tracks
    expected = {
        "a": {"vocals": (1, 2, 3), "drums": (4,), "bass": (5,), "other": (6, 7)},
        "b": {"vocals": (11,), "drums": (14,), "bass": (15,), "other": (17, 18)},
    }
    assert sorted(track.name for track in tracks) == ["a", "b"]
    for track in tracks:
        for stem, seeds in expected[track.name].items():
            np.testing.assert_array_equal(
                read(tmp_path / "out" / track.stems[stem]), sum(noise(seed) for seed in seeds)
            )


def test_another_mapping_prepares_anew(tmp_path: Path) -> None:
    write(tmp_path / "in/a", vocals=1, backing=2, drums=3, bass=4, other=5)
    (first,) = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out")
    ).tracks
    result = prepare_dataset(
        PreparationRequest(
            source=tmp_path / "in", out=tmp_path / "out", stem_map=["vocals=vocals,backing"]
        )
    )
    assert (result.written, result.skipped, len(result.tracks)) == (1, [], 1)
    (second,) = result.tracks
    changed = [stem for stem in STEMS if first.sha256[stem] != second.sha256[stem]]
    assert changed == ["vocals"]


def test_given_mixture_is_kept_for_what_is_not_trained_on(tmp_path: Path) -> None:
    for path in ("train/a", "valid/b", "test/c"):
        write_track(tmp_path / "in" / path)
        write(tmp_path / "in" / path, mixture=9)
    write_track(tmp_path / "in/test/d")
    tracks = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out")
    ).tracks
    assert [track.mixture for track in tracks] == [
        None,
        "valid/b/mixture.wav",
        "test/c/mixture.wav",
        None,
    ]
    np.testing.assert_array_equal(read(tmp_path / "out/test/c/mixture.wav"), noise(9))
    assert not (tmp_path / "out/train/a/mixture.wav").exists()
    for track in tracks:
        assert list(track.files) == [*STEMS, *(["mixture"] if track.mixture else [])]
        for role, file in track.files.items():
            content = (tmp_path / "out" / file).read_bytes()
            assert track.sha256[role] == hashlib.sha256(content).hexdigest()
        assert list(track.activity) == list(STEMS)


def test_given_mixture_follows_cuts_and_rate(tmp_path: Path) -> None:
    write_track(tmp_path / "in/test/c")
    time = np.arange(FRAMES) / RATE
    tone = np.stack([0.5 * np.sin(2 * np.pi * 440 * time)] * 2, axis=1)
    soundfile.write(tmp_path / "in/test/c/mixture.wav", tone, RATE, subtype="FLOAT")
    exclude = ["c:0.25-0.5"]
    tracks = prepare_dataset(
        PreparationRequest(
            source=tmp_path / "in", out=tmp_path / "out", sample_rate=2 * RATE, exclude=exclude
        )
    ).tracks
    assert [(track.name, track.frames) for track in tracks] == [
        ("c.1", RATE // 2),
        ("c.2", RATE + 14),
    ]
    assert tracks[1].mixture == "test/c.2/mixture.wav"
    audio, rate = read_audio(tmp_path / "out/test/c.2/mixture.wav")
    expected = 0.5 * np.sin(2 * np.pi * 440 * (np.arange(RATE + 14) / (2 * RATE) + 0.5))
    assert (rate, audio.shape) == (2 * RATE, (2, RATE + 14))
    np.testing.assert_allclose(audio[0, :-500], expected[:-500], atol=2 / 32768)


@pytest.mark.parametrize(
    ("gain", "level"), [(1.0, None), (1.005, None), (1.02, -34.2), (2.0, -6.0), (0.0, math.inf)]
)
def test_mixture_that_is_not_the_sum_is_told(
    gain: float, level: float | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # A mixture of g times the sum differs from it by |g - 1| / g of itself.
    for name in ("a", "b"):
        write_track(tmp_path / "in/train" / name)
        mixture = sum(noise(seed) / 32768 for seed in (1, 2, 3, 4))
        if name == "b":
            mixture = gain * mixture
        path = tmp_path / "in/train" / name / "mixture.wav"
        soundfile.write(path, mixture, RATE, subtype="FLOAT")
    with caplog.at_level(logging.WARNING):
        prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    if level is None:
        assert caplog.messages == []
        return
    assert caplog.messages == [
        "the given mixture is not the sum of the stems in 1 tracks: what they differ by is up to "
        f"{level:.1f} dB relative to the mixture (valid/b); training uses the sum, evaluation the "
        "given mixture"
    ]
    caplog.clear()
    prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("container", "encoding", "subtype", "step"),
    [
        ("wav", "int16", "PCM_16", 2**-16),
        ("wav", "int24", "PCM_24", 2**-24),
        ("wav", "float32", "FLOAT", 0.0),
        ("flac", "int16", "PCM_16", 2**-16),
        ("flac", "int24", "PCM_24", 2**-24),
    ],
)
def test_formats(container: str, encoding: str, subtype: str, step: float, tmp_path: Path) -> None:
    write_track(tmp_path / "in/song")
    rng = np.random.default_rng(5)
    exact = (rng.uniform(-0.9, 0.9, (FRAMES, 2))).astype(np.float32)
    if encoding == "float32":
        exact *= 4  # which only this format can hold
    soundfile.write(tmp_path / "in/song/bass.wav", exact, RATE, subtype="FLOAT")
    settings = {"container": container, "encoding": encoding}
    result = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out", **settings)
    )  # type: ignore[arg-type]
    (track,) = result.tracks
    assert track.encoding == encoding
    assert track.stems["bass"] == f"train/song/bass.{container}"
    info = soundfile.info(tmp_path / "out" / track.stems["bass"])
    assert (info.format, info.subtype) == (container.upper(), subtype)
    audio, _ = read_audio(tmp_path / "out" / track.stems["bass"])
    assert np.abs(audio.T - exact).max() <= step
    np.testing.assert_array_equal(
        read_audio(tmp_path / "out" / track.stems["drums"])[0].T * 32768, noise(2)
    )
    again = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out", **settings)
    )  # type: ignore[arg-type]
    assert again.written == 0


def test_other_encoding_prepares_anew(tmp_path: Path) -> None:
    write_track(tmp_path / "in/song")
    prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    result = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out", encoding="int24")
    )
    assert (result.written, result.tracks[0].encoding) == (1, "int24")
    assert soundfile.info(tmp_path / "out/train/song/bass.wav").subtype == "PCM_24"
