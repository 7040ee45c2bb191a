"""The doctor: looks at all that is stored and at the settings, names what is wrong, and fixes what can be fixed."""

from feedmill.doctor.report import Finding, Report
from feedmill.doctor.runner import Examination, examine

__all__ = ["Examination", "Finding", "Report", "examine"]
