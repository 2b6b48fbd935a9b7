import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfisep_core.audio.formats import Encoding
from sfisep_core.audio.pcm import decode_pcm, encode_pcm
from sfisep_core.errors import AudioFileError, CheckpointError, ConfigError
from sfisep_core.separation.live import LiveRequest, LiveResult, LiveStart, separate_live
from sfisep_core.separation.separator import Separator
from tests.separation.divider import Divider, Samples, decibels, noise
from tests.separation.pacing import Listener, record

REPOSITORY = Path(__file__).resolve().parents[2]
RATE = 8000
# Separates with the known answer, and tells latency and result on standard error.
PROGRAM = f"""
import sys
from sfisep_core.separation.live import LiveRequest, separate_live
from tests.separation.divider import Divider
request = LiveRequest(
    sample_rate={RATE}, channels=2, model=Divider(), device="cpu", segment=0.25, stems=("stem 1",)
)
result = separate_live(
    request,
    open(0, "rb", buffering=0, closefd=False),
    open(1, "wb", buffering=0, closefd=False),
    started=lambda start: print(start.latency, file=sys.stderr, flush=True),
)
print(result.frames, result.held_up, file=sys.stderr)
"""


def separated(data: bytes, **fields: Any) -> tuple[bytes, LiveResult]:
    """Separate bytes with the known answer."""
    settings = {"sample_rate": RATE, "channels": 2, "model": Divider(), "device": "cpu"}
    written, starts = io.BytesIO(), list[LiveStart]()
    request = LiveRequest(**(settings | fields))
    result = separate_live(request, io.BytesIO(data), written, started=starts.append)
    assert starts == [result.start]
    return written.getvalue(), result


def quiet_noise(frames: int, encoding: Encoding = "int16") -> bytes:
    return encode_pcm(0.1 * noise(2, frames), encoding=encoding)[0]


@pytest.mark.parametrize("encoding", ["int16", "int24", "float32"])
@pytest.mark.parametrize("frames", [0, 1, 10_000, 100_001])
def test_stems_are_shares_and_as_long_as_the_input(encoding: Encoding, frames: int) -> None:
    data = quiet_noise(frames, encoding)
    written, result = separated(data, encoding=encoding, stems=("stem 0",))
    step = {"int16": 2**-16, "int24": 2**-24, "float32": 0}[encoding]
    mixture = decode_pcm(data, channels=2, encoding=encoding)
    stem = decode_pcm(written, channels=2, encoding=encoding)
    np.testing.assert_allclose(stem, 0.75 * mixture, rtol=0, atol=step + 1e-6)
    assert (result.frames, result.seconds, result.clipped) == (frames, frames / RATE, 0)


def test_all_stems_stand_side_by_side() -> None:
    data = quiet_noise(20_000, "float32")
    mixture = decode_pcm(data, channels=2, encoding="float32")
    written, result = separated(data, encoding="float32")
    assert result.start.stems == ("stem 0", "stem 1")
    frames = decode_pcm(written, channels=4, encoding="float32")
    np.testing.assert_allclose(frames[:2], 0.75 * mixture, atol=1e-6)
    np.testing.assert_allclose(frames[2:], 0.25 * mixture, atol=1e-6)


def test_what_is_left_of_the_mixture_is_in_step_with_it() -> None:
    model = Divider(shares=(0.5, 0.25))  # which do not add up to the mixture
    data = quiet_noise(50_001, "float32")
    mixture = decode_pcm(data, channels=2, encoding="float32")
    written, result = separated(
        data, model=model, encoding="float32", stems=("no_stem 1", "stem 1"), segment=0.3
    )
    assert result.start.stems == ("stem 1", "no_stem 1")
    frames = decode_pcm(written, channels=4, encoding="float32")
    np.testing.assert_allclose(frames[:2], 0.25 * mixture, atol=1e-6)
    np.testing.assert_allclose(frames[2:], 0.75 * mixture, atol=1e-6)


def test_stems_beyond_full_scale_are_clipped_and_counted() -> None:
    model = Divider(shares=(2.0,))
    data = encode_pcm(np.array([[0.25, 0.75, -0.75]], dtype=np.float32), encoding="int16")[0]
    written, result = separated(data, model=model, channels=1)
    np.testing.assert_allclose(
        decode_pcm(written, channels=1, encoding="int16"), [[0.5, 1 - 2**-15, -1]]
    )
    assert result.clipped == 2


def test_an_end_within_a_frame(caplog: pytest.LogCaptureFixture) -> None:
    whole, _ = separated(quiet_noise(1000))
    written, result = separated(quiet_noise(1000) + b"abc")
    assert written == whole
    assert result.frames == 1000
    assert "left out the last 3 bytes, where a frame has 4" in caplog.text


def test_an_input_that_comes_too_fast_is_held_up_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "sfisep_core")
    data = quiet_noise(60 * RATE)
    written, result = separated(data, stems=("stem 0",))
    assert len(written) == len(data)
    assert result.held_up > 0
    assert 10 < result.waited < 30
    assert caplog.text.count("a recorder may lose samples") == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers(value: float) -> None:
    data = np.full(10, value, dtype="<f4").tobytes()
    with pytest.raises(AudioFileError, match="expected finite samples, found NaN or Inf"):
        separated(data, encoding="float32")


def test_an_input_that_cannot_be_read(tmp_path: Path) -> None:
    request = LiveRequest(sample_rate=RATE, channels=1, model=Divider(), device="cpu")
    descriptor = os.open(tmp_path, os.O_RDONLY)

    class Folder:
        def read(self, size: int) -> bytes:
            return os.read(descriptor, size)

    with pytest.raises(AudioFileError, match="input: expected samples, got Is a directory"):
        separate_live(request, Folder(), io.BytesIO())
    os.close(descriptor)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"sample_rate": 100}, ConfigError, "sampling frequency 100 Hz"),
        ({"channels": 0}, ConfigError, "channels: expected 1 to 64, got 0"),
        ({"encoding": "alaw"}, ConfigError, "encoding: expected int16"),
        ({"segment": 0.0}, ConfigError, "segment: expected seconds above 0"),
        ({"stems": ("piano",)}, ConfigError, "stem 'piano': expected one of this model's"),
        ({"stems": ()}, ConfigError, "stems: expected one or more"),
        ({"model": Divider(invariant=False)}, ConfigError, "cannot separate a stream"),
        ({"model": "default", "stems": ("piano",)}, ConfigError, "stem 'piano'"),
        ({"model": "default+default"}, ConfigError, "one model"),
        ({"model": "nope"}, CheckpointError, "nope"),
    ],
)
def test_requests_that_cannot_be_met(
    fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        separated(b"", **fields)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that separates, and wait until it has told its latency."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as process:
        assert process.stderr is not None
        try:
            assert float(process.stderr.readline()) == pytest.approx(2.25, abs=0.01)
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_a_recorder_loses_nothing_and_the_stems_are_all_there(
    process: subprocess.Popen[bytes],
) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    data = quiet_noise(6 * RATE)
    listener = Listener(process.stdout)
    recording = record(data, process.stdin, frame_bytes=4, rate=RATE)
    written = listener.finish()
    frames, held_up = process.stderr.read().split()
    assert process.wait() == 0
    assert recording.dropped == 0
    assert (int(frames), float(held_up)) == (6 * RATE, 0)
    mixture = decode_pcm(data, channels=2, encoding="int16")
    stem = decode_pcm(written, channels=2, encoding="int16")
    np.testing.assert_allclose(stem, 0.25 * mixture, rtol=0, atol=2**-16 + 1e-6)
    # Samples came while the recorder was still at work, and none before its own time.
    assert listener.arrivals[0][0] < recording.begun + 6
    assert min(listener.delays(recording.begun, bytes_per_second=4 * RATE)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signals_end_it_while_all_threads_wait(name: str, process: subprocess.Popen[bytes]) -> None:
    assert process.stderr is not None
    process.send_signal(getattr(signal, name))
    process.stderr.read()
    assert process.wait(60) == -getattr(signal, name)


@pytest.mark.slow
def test_real_stems_are_those_of_the_whole_recording() -> None:
    rate = 8000
    mixture: Samples = 0.1 * np.cumsum(noise(2, 8 * rate), axis=1) / np.float32(np.sqrt(rate))
    whole = Separator("sfi-conv-tasnet-small", device="cpu").separate((mixture, rate)).stems
    written = io.BytesIO()
    request = LiveRequest(
        sample_rate=rate,
        channels=2,
        encoding="float32",
        model="sfi-conv-tasnet-small",
        device="cpu",
    )
    result = separate_live(request, io.BytesIO(encode_pcm(mixture, encoding="float32")[0]), written)
    frames = decode_pcm(written.getvalue(), channels=8, encoding="float32")
    assert result.start.stems == tuple(whole)
    for number, stem in enumerate(whole.values()):
        assert decibels(frames[2 * number : 2 * number + 2] - stem, stem) < -60
