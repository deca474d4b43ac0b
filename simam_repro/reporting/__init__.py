"""Figures and tables from run folders."""

from simam_repro.reporting.curves import plot_curves
from simam_repro.reporting.figures import write_figures
from simam_repro.reporting.tables import side_by_side, summary_line

__all__ = ["plot_curves", "side_by_side", "summary_line", "write_figures"]
