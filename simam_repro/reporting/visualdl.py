"""Adding to the VisualDL log of a run after its training."""

import contextlib

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from simam_repro.runs import RunFolder
from simam_repro.training.visualdl_log import open_log


def log_image(run: RunFolder, tag: str, image: np.ndarray, step: int = 0) -> None:
    """Add an image, uint8 [H, W, 3], to the end of the log of `run`."""
    with contextlib.closing(open_log(run.visualdl)) as writer:
        writer.add_image(tag.replace("%", "_"), image, step=step)  # VisualDL refuses % in a tag


def log_figure(run: RunFolder, tag: str, figure, step: int = 0) -> None:
    """Add a figure to the end of the log of `run`: a matplotlib Figure, or the path of a PNG."""
    if isinstance(figure, Figure):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        image = np.asarray(canvas.buffer_rgba())[..., :3]
    else:
        image = np.asarray(Image.open(figure).convert("RGB"))
    log_image(run, tag, image, step)
