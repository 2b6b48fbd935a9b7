from pathlib import Path

import numpy as np
import soundfile

from sfisep_core.separation.overall_progress import OverallProgress, overall_progress
from sfisep_core.separation.plan import expected_seconds

SHOWN = list[tuple[float, float, str]]


def make(lengths: dict[str, float | None]) -> tuple[OverallProgress, SHOWN]:
    shown: SHOWN = []
    by_path = {Path(name): length for name, length in lengths.items()}
    return OverallProgress(by_path, lambda *values: shown.append(values)), shown


def test_progress_is_that_of_all_files_together() -> None:
    progress, shown = make({"x/a.wav": 10.0, "b.wav": 30.0, "c.wav": 20.0})
    progress.begin(Path("x/a.wav"))
    progress.report(2.5, 5.0)  # whatever the unit
    progress.finish(Path("x/a.wav"))
    progress.begin(Path("b.wav"))
    progress.report(0.0, 0.0)  # an empty file
    progress.finish(Path("b.wav"))
    assert shown == [
        (0.0, 60.0, "1 of 3: a.wav"),
        (5.0, 60.0, "1 of 3: a.wav"),
        (10.0, 60.0, "1 of 3 finished"),
        (10.0, 60.0, "2 of 3: b.wav"),
        (40.0, 60.0, "2 of 3: b.wav"),
        (40.0, 60.0, "2 of 3 finished"),
    ]


def test_unknown_lengths_count_as_the_mean_of_the_others() -> None:
    progress, shown = make({"a": None, "b": 10.0, "c": 30.0})
    progress.begin_together()
    progress.finish(Path("a"))
    assert shown == [(0.0, 60.0, "0 of 3 finished"), (20.0, 60.0, "1 of 3 finished")]


def test_one_file_is_not_counted() -> None:
    progress, shown = make({"a.wav": None})
    progress.begin(Path("a.wav"))
    assert shown == [(0.0, 1.0, "a.wav")]


def test_lengths_come_from_headers(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(12000), 8000)
    (tmp_path / "text.wav").write_text("no audio")
    paths = [path, tmp_path / "text.wav", tmp_path / "missing.wav", tmp_path]
    assert [expected_seconds(path) for path in paths] == [1.5, None, None, None]
    shown: SHOWN = []
    progress = overall_progress([path, Path("-")], lambda *values: shown.append(values))
    progress.begin(Path("-"))
    assert shown == [(0.0, 3.0, "1 of 2: -")]
