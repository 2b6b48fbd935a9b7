"""The report of a comparison of methods: one self-contained HTML file."""

from sfisep_core.evaluation.report.drawing import check_available
from sfisep_core.evaluation.report.page import write_report

__all__ = ["check_available", "write_report"]
