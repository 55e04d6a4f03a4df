"""The report: one page and its figures, a pure function of records."""

from insitu.report.page import Report, build_report, verdict_table

__all__ = ["Report", "build_report", "verdict_table"]
