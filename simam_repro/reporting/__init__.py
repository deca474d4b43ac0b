"""Figures and tables from run folders."""

from simam_repro.reporting.comparison import comparison_text, left_out_text
from simam_repro.reporting.comparison_figure import plot_comparison
from simam_repro.reporting.curves import curves_path, plot_curves
from simam_repro.reporting.evaluation import evaluation_table, write_evaluation
from simam_repro.reporting.figures import write_data_figures, write_eval_grid, write_figures
from simam_repro.reporting.networks import find_configs, measure_network, network_table, overview_table
from simam_repro.reporting.predictions import prediction_line, write_predictions
from simam_repro.reporting.tables import side_by_side, summary_line

__all__ = [
    "comparison_text",
    "curves_path",
    "evaluation_table",
    "find_configs",
    "left_out_text",
    "measure_network",
    "network_table",
    "overview_table",
    "plot_comparison",
    "plot_curves",
    "prediction_line",
    "side_by_side",
    "summary_line",
    "write_data_figures",
    "write_eval_grid",
    "write_evaluation",
    "write_figures",
    "write_predictions",
]
