"""Training: `fit(experiment, run_dir)` leaves a whole run folder."""

from simam_repro.training.fit import fit

__all__ = ["fit"]
