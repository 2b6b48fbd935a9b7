import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# Writes music of some minutes, separates it with a small network, and tells the most memory that it
# ever had. Windows are short and computed one after the other, so the network takes little.
PROGRAM = """
import json, resource, sys
from pathlib import Path
import numpy as np
import torch
from sfisep_core.audio.files import AudioWriter
from sfisep_core.models.registry import build_model
from sfisep_core.separation.separator import Separator

folder, gain_rule, sample_rate = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) or None
torch.set_num_threads(1)
torch.manual_seed(0)
tcn = dict(bottleneck_channels=8, hidden_channels=8, num_layers=1, num_stacks=1, norm="window")
model = build_model("sfi-conv-tasnet", dict(num_filters=8, tcn=tcn, mask="free",
    gain_rule=gain_rule, normalizes_level=gain_rule == "least-squares",
    segment_seconds=5, context_seconds=1))
minute = np.random.default_rng(0).standard_normal((2, 60 * 11025)).astype(np.float32)
def peak(minutes):
    with AudioWriter(
        folder / "song.wav", sample_rate=11025, channels=2, encoding="int16"
    ) as writer:
        for _ in range(minutes):
            writer.write(0.1 * minute)
    result = Separator(model, device="cpu").separate_file(
        folder / "song.wav", out_dir=folder / "out", sample_rate=sample_rate
    )
    assert result.frames == minutes * 60 * (sample_rate or 11025)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

print(json.dumps([peak(1), peak(6)]))
"""


@pytest.mark.parametrize(
    ("gain_rule", "sample_rate"), [("mixture-consistent", 0), ("least-squares", 8000)]
)
def test_memory_does_not_grow_with_the_length(
    gain_rule: str, sample_rate: int, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), gain_rule, str(sample_rate)],
        capture_output=True,
        text=True,
        check=True,
    )
    short, long = json.loads(done.stdout)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        *("bass.wav", "drums.wav", "other.wav", "song.wav", "vocals.wav")
    ]
    # Five minutes more of one stereo stem, at 8 kHz, are 18 MiB.
    assert long - short < 16
