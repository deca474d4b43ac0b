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


def set_title(figure: Figure, title: str, stand_in: bool = False) -> None:
    """Title over the whole figure; with a note when its data is a stand-in."""
    lines = [title] if title else []
    figure.suptitle("\n".join([*lines, STAND_IN_NOTE] if stand_in else lines), fontsize="medium")
