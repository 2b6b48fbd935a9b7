"""`sfisep separate - --stream --raw` through real pipes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LIVE = ["--stream", "--raw", "--sr", "8000", "--channels", "2", "-d", "cpu"]
SMALL = ["-m", "sfi-conv-tasnet-small"]


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "sfisep_cli", "separate", "-", *LIVE, *SMALL, *arguments],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


@pytest.mark.slow
def test_all_stems_add_up_to_the_mixture_and_the_latency_is_shown() -> None:
    mixture = 0.1 * np.random.default_rng(0).standard_normal((20_001, 2)).astype("<f4")
    with start("--float32") as process:
        written, messages = process.communicate(mixture.tobytes() + b"abc")
        assert process.returncode == 0, messages
    stems = np.frombuffer(written, "<f4").reshape(-1, 4, 2)
    assert len(stems) == 20_001
    np.testing.assert_allclose(stems.sum(axis=1), mixture, atol=1e-5)
    lines = messages.decode().splitlines()
    latency = next(line for line in lines if line.startswith("latency"))
    assert latency == (
        "latency 3.00 s, and the time to compute; writes 8 channels, float32 at 8000 Hz: vocals, "
        "drums, bass, other"
    )
    assert any("left out the last 3 bytes" in line for line in lines)
    assert lines[-1].startswith("2.5 s of music; up to 2.5 s of it waited")


@pytest.mark.slow
def test_one_stem_alone_and_nothing_said() -> None:
    with start("--two-stems", "vocals", "--quiet", "--segment", "0.5") as process:
        written, messages = process.communicate(bytes(4 * 9000))
        assert process.returncode == 0
    assert (written, messages) == (bytes(4 * 9000), b"")


@pytest.mark.slow
def test_a_reader_that_leaves_ends_it_quietly() -> None:
    with start("--stems", "vocals") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline() != b""  # it has started
        process.stdout.close()
        process.stdin.write(bytes(4 * 8000 * 5))
        process.stdin.close()
        lines = process.stderr.read().decode().splitlines()
        assert process.wait(60) == 1
    assert not [line for line in lines if "rror" in line or "Traceback" in line]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_signals_end_it_with_their_code(name: str, code: int) -> None:
    with start("--stems", "vocals") as process:
        assert process.stderr is not None
        while b"latency" not in process.stderr.readline():
            pass
        process.send_signal(getattr(signal, name))
        assert process.stderr.read() == b""
        assert process.wait(60) == code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("- --stream --sr 8000 --channels 2", "--raw is missing"),
        ("- --raw --sr 8000 --channels 2", "--stream is missing"),
        ("- --stream --raw --channels 2", "--sr is missing"),
        ("- --stream --raw --sr 8000", "--channels is missing"),
        ("song.wav --channels 2", "--stream is missing"),
        ("song.wav --stream --raw --sr 8000 --channels 2", "input alone, got song.wav: give -"),
        ("- song.wav --stream --raw --sr 8000 --channels 2", "input alone, got - song.wav"),
        ("- --stream --raw --sr 8000 --channels 65", "--channels N: "),
        ("- --stream --raw --sr 8000 --channels 2 --method resample", "--method is for files"),
        ("- --stream --raw --sr 8000 --channels 2 --page", "--page is for files"),
        ("- --stream --raw --sr 8000 --channels 2 --json", "--json is for files"),
        ("- --stream --raw --sr 8000 --channels 2 --shifts 2", "--shifts is for files"),
        ("- --stream --raw --sr 8000 --channels 2 --flac", "--flac is for files"),
        ("- --stream --raw --sr 8000 --channels 2 -o stems", "--out stems: a stream is written"),
        ("- --stream --raw --sr 8000 --channels 2 --stems piano", "stem 'piano': expected one"),
        ("- --stream --raw --sr 8000 --channels 2 -m default+default", "by one model"),
    ],
)
def test_what_is_not_for_streams_is_refused_in_one_line(
    arguments: str, message: str, run_sfisep: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sfisep("separate", *arguments.split()) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert out == ""


def test_standard_input_that_is_closed(
    monkeypatch: pytest.MonkeyPatch,
    run_sfisep: Callable[..., int],
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert run_sfisep("separate", "-", *LIVE) == 1
    out, err = capfdbinary.readouterr()
    assert err == (
        b"error: standard input: expected samples, found none: it is closed: pipe samples in\n"
    )
    assert out == b""
