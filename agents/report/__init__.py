"""What a run leaves to read: its logs, copies of its curves in other tools, and its HTML page."""

from agents.report.page import write_report

__all__ = ["write_report"]
