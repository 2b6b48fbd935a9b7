import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sfisep_core.evaluation.metrics import DEFINITIONS
from sfisep_core.evaluation.report import write_report
from sfisep_core.evaluation.report.findings import find
from sfisep_core.evaluation.report.templating import gain
from sfisep_core.evaluation.study import ALL_SOURCES, ScoreKey, Study
from sfisep_core.pretrained.resolve import resolve_model
from tests.evaluation.report.conftest import METRICS, SOURCES, TRACKS
from tests.evaluation.report.test_templates import difference_cell, score_cell

pytestmark = pytest.mark.slow

pytest.importorskip("matplotlib")

VOID = {"meta", "link", "img", "br"}
LOADING = {"src", "href", "xlink:href", "srcset", "poster", "data", "action"}


class Reader(HTMLParser):
    """Collect what a page holds, and check that its elements close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.loads: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.ids.update(value or "" for name, value in attrs if name == "id")
        self.loads += [value or "" for name, value in attrs if name in LOADING]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text += data


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def report(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(study, path, model=resolve_model("sfi-conv-tasnet-small"))
    return path


def test_page_holds_every_section(report: Path) -> None:
    page = read(report)
    assert page.tags["svg"] == 3 + 1 + 1  # three scores, the equivariance error, the filters
    assert page.tags["option"] == page.tags["select"] + 2 == 3
    assert page.tags["audio"] == page.tags["img"] == 6
    for metric in (*METRICS, "equivariance_db"):
        assert DEFINITIONS[metric].definition in page.text
    assert DEFINITIONS["isr"].definition not in page.text
    assert "not corrected for the number of comparisons" in page.text
    assert "0123abcd" * 8 in page.text


def test_names_are_escaped(report: Path) -> None:
    page = read(report)
    for name in (*TRACKS, *SOURCES, "<default> & 'mine'", "5 tracks of <data>"):
        assert name in page.text
    assert page.tags["b"] == page.tags["default"] == page.tags["data"] == 0


def test_page_loads_nothing(report: Path) -> None:
    page = read(report)
    assert {value.split(":")[0] for value in page.loads if not value.startswith("#")} == {"data"}
    text = report.read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    assert "default-src 'none'" in text


def test_ids_are_unique_and_found(report: Path) -> None:
    page = read(report)
    assert page.ids.total() == len(page.ids)
    wanted = {value[1:] for value in page.loads if value.startswith("#")}
    wanted |= set(re.findall(r"url\(#([^)]*)\)", report.read_text(encoding="utf-8")))
    assert len(wanted) > 100
    assert wanted <= set(page.ids)


def test_what_is_missing_is_a_dash(report: Path, study: Study) -> None:
    text = report.read_text(encoding="utf-8")
    shown = re.sub(r'data:[^"]*|<head>.*?</head>|<svg.*?</svg>', "", text, flags=re.DOTALL)
    assert not re.search(r"\b([Nn]a[Nn]|None)\b", shown)
    key = ScoreKey(8000, "native", SOURCES[0], "si_sdr")
    cell = score_cell(study.summaries[key])
    row = f'<th scope="row">vocals</th><td>{cell}</td><td>\N{EN DASH}</td>'
    assert row in text
    # Of five tracks one is infinitely bad, and counts.
    lowest = study.summaries[ScoreKey(16000, "native", SOURCES[0], "si_sdr")]
    assert score_cell(lowest).endswith("mean \N{MINUS SIGN}inf, 5 tracks</small>")
    assert score_cell(lowest) in text


def test_differences_are_those_of_the_summaries(report: Path, study: Study) -> None:
    text = report.read_text(encoding="utf-8")
    for metric in ("sdr", "si_sdr"):
        for rate in study.sample_rates:
            key = ScoreKey(rate, "native", ALL_SOURCES, metric)
            cell = difference_cell(study.differences[key, "resample"])
            assert f"<td>{cell}</td>" in text


def test_page_begins_with_what_was_found(report: Path, study: Study) -> None:
    text = " ".join(read(report).text.split())
    (finding,) = find(study)
    begin = text.index("What was found")
    assert begin < text.index("What was done")
    assert (
        f"native minus resample, SI-SDR, mean over the sources of 5 tracks: from "
        f"{gain(finding.lowest)} dB at"
    ) in text[begin:].replace("\N{NO-BREAK SPACE}", " ")
    assert f"At {finding.better} of 3 sampling frequencies native is ahead" in text


def test_repeated_call_writes_the_same_bytes(study: Study, report: Path) -> None:
    again = report.with_name("again.html")
    write_report(study, again, model=resolve_model("sfi-conv-tasnet-small"))
    assert again.read_bytes() == report.read_bytes()
    assert sorted(path.name for path in report.parent.iterdir()) == ["again.html", "report.html"]


def test_what_there_is_not_is_said(bare_study: Study, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(bare_study, path, model=None)
    page = read(path)
    assert "at 1 sampling frequency" in page.text
    for sentence in ("has no SFI encoder", "no scores of it", "No excerpts", "nothing to compare"):
        assert sentence in page.text
    assert page.tags["svg"] == 1
    write_report(replace(bare_study, scores={}), path, model=None)
    assert read(path).tags["svg"] == 0
