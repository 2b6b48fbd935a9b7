"""Measure latency and losses of `sfisep separate - --stream --raw` with a paced recorder.

    python -m tests.benchmarks.live_pace [--model NAME] [--sample-rate HZ] [--segment SECONDS]

writes noise to the command at the pace of a sound card for ten minutes (`--seconds`), reads the
stem, and prints what the recorder lost, the longest time that it was held up, whether the output
has as many frames as the input, and the delay of the output. The recorder starts when the command
has shown its latency.
"""

import argparse
import statistics
import subprocess
import sys

import numpy as np

from sfisep_core.audio.pcm import encode_pcm
from tests.separation.pacing import Listener, record

CHANNELS = 2
FRAME_BYTES = 2 * CHANNELS
NOISE_SECONDS = 10  # repeated


def main() -> None:
    """Run the command for a while, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="sfi-conv-tasnet-small")
    parser.add_argument("--sample-rate", type=int, default=44100)
    parser.add_argument("--segment", type=float, default=1.0)
    parser.add_argument("--seconds", type=int, default=600)
    options = parser.parse_args()
    rate = options.sample_rate
    noise = 0.1 * np.random.default_rng(0).standard_normal((CHANNELS, NOISE_SECONDS * rate))
    part = encode_pcm(noise.astype(np.float32), encoding="int16")[0]
    data = (part * (options.seconds // NOISE_SECONDS + 1))[: options.seconds * rate * FRAME_BYTES]
    command = [sys.executable, "-m", "sfisep_cli", "separate", "-", "--stream", "--raw"]
    command += ["--sr", str(rate), "--channels", str(CHANNELS), "--model", options.model]
    command += ["--segment", str(options.segment), "--stems", "vocals", "--device", "cpu"]
    with subprocess.Popen(
        command,
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        while (line := process.stderr.readline()) and not line.startswith(b"latency"):
            pass
        sys.stdout.write(line.decode())
        sys.stdout.flush()
        listener = Listener(process.stdout)
        recording = record(data, process.stdin, frame_bytes=FRAME_BYTES, rate=rate)
        written = listener.finish()
        last = process.stderr.read().decode()
        code = process.wait()
    delays = listener.delays(recording.begun, bytes_per_second=FRAME_BYTES * rate)
    sys.stdout.write(
        f"{last}exit code {code}\n"
        f"recorder: {recording.dropped} frames lost, "
        f"longest write {recording.longest_write:.3f} s\n"
        f"frames: {len(data) // FRAME_BYTES} in, {len(written) // FRAME_BYTES} out\n"
        f"delay: first sample {delays[0]:.2f} s, median {statistics.median(delays):.2f} s, "
        f"largest {max(delays):.2f} s\n"
    )


if __name__ == "__main__":
    main()
