"""The report: one page and its figures, a pure function of records."""

from insitu.report.folder import Pages, build_pages
from insitu.report.page import Report, build_report
from insitu.report.verdicts import verdict_table

__all__ = ["Pages", "Report", "build_pages", "build_report", "verdict_table"]
