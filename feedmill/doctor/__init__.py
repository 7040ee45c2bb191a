"""The doctor: looks at all that is stored and at the settings, names what is wrong, and mends what can be mended."""

from feedmill.doctor.examination import Examination, examine
from feedmill.doctor.findings import Finding, Report

__all__ = ["Examination", "Finding", "Report", "examine"]
