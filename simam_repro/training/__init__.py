"""Training: `fit(experiment, run_dir)` leaves a whole run folder."""

from simam_repro.training.checks import check_batches, check_start
from simam_repro.training.fit import fit

__all__ = ["check_batches", "check_start", "fit"]
