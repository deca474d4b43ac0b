"""How every figure of this project is made: off screen, written whole, one look."""

import matplotlib

matplotlib.use("Agg")

from matplotlib.figure import Figure  # noqa: E402

from simam_repro.storage import atomic_path  # noqa: E402

STAND_IN_NOTE = "stand-in data: generated images, no evidence about SimAM"


def new_figure(width: float, height: float) -> Figure:
    """A figure of width x height inches."""
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path) -> None:
    """Write a PNG."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def mark_stand_in(figure: Figure, stand_in: bool) -> None:
    """Write over a figure that its data is a stand-in, when it is."""
    if stand_in:
        figure.suptitle(STAND_IN_NOTE, fontsize="medium")
