import numpy as np
import pytest

from sfisep_core.audio.formats import Encoding
from sfisep_core.audio.pcm import bytes_per_sample, check_encoding, decode_pcm, encode_pcm
from sfisep_core.errors import ConfigError


@pytest.mark.parametrize(
    ("encoding", "data", "values"),
    [
        ("int16", b"\x00\x80\xff\xff\x00\x00\x01\x00\xff\x7f", [-1, -(2**-15), 0, 2**-15]),
        (
            "int24",
            b"\x00\x00\x80\xff\xff\xff\x00\x00\x00\x01\x00\x00\xff\xff\x7f",
            [-1, -(2**-23), 0, 2**-23],
        ),
        ("float32", np.array([-1, -0.1, 0, 0.1, 2], "<f4").tobytes(), [-1, -0.1, 0, 0.1]),
    ],
)
def test_known_bytes(encoding: Encoding, data: bytes, values: list[float]) -> None:
    largest = {"int16": 1 - 2**-15, "int24": 1 - 2**-23, "float32": 2}[encoding]
    samples = decode_pcm(data, channels=1, encoding=encoding)
    np.testing.assert_array_equal(samples, np.array([[*values, largest]], dtype=np.float32))
    assert len(data) == 5 * bytes_per_sample(encoding)
    assert encode_pcm(samples, encoding=encoding) == (data, 0)


@pytest.mark.parametrize("encoding", ["int16", "int24", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_bytes_come_back(encoding: Encoding, channels: int) -> None:
    generator = np.random.default_rng(0)
    if encoding == "float32":
        data = generator.standard_normal(600).astype("<f4").tobytes()
    else:
        data = generator.bytes(600 * bytes_per_sample(encoding))
    samples = decode_pcm(data, channels=channels, encoding=encoding)
    assert samples.shape == (channels, 600 // channels)
    assert encode_pcm(samples, encoding=encoding) == (data, 0)


def test_channels_are_side_by_side() -> None:
    samples = decode_pcm(np.arange(6, dtype="<i2").tobytes(), channels=2, encoding="int16")
    np.testing.assert_array_equal(samples * 2**15, [[0, 2, 4], [1, 3, 5]])


@pytest.mark.parametrize(("encoding", "bits"), [("int16", 16), ("int24", 24)])
def test_integers_are_rounded_and_clipped(encoding: Encoding, bits: int) -> None:
    step = 2.0 ** (1 - bits)
    samples = np.array([[-1.5, -1, 0.75 * step, 0.25 * step, 1, 1e9]], dtype=np.float32)
    data, clipped = encode_pcm(samples, encoding=encoding)
    assert clipped == 3
    decoded = decode_pcm(data, channels=1, encoding=encoding)
    np.testing.assert_array_equal(decoded, [[-1, -1, step, 0, 1 - step, 1 - step]])


def test_no_samples() -> None:
    for encoding in ("int16", "int24", "float32"):
        assert decode_pcm(b"", channels=2, encoding=encoding).shape == (2, 0)
        assert encode_pcm(np.zeros((2, 0), dtype=np.float32), encoding=encoding) == (b"", 0)


def test_unknown_encoding() -> None:
    with pytest.raises(ConfigError, match="expected int16, int24 or float32, got 'mulaw'"):
        check_encoding("mulaw")
