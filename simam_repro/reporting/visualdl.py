"""Adding to the VisualDL log of a run after its training."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from simam_repro.runs import RunFolder


def log_image(run: RunFolder, tag: str, image: np.ndarray, step: int = 0) -> None:
    """Add an image, uint8 [H, W, 3], to the end of the log of `run`.

    A run that was trained without a log (`logging.visualdl: false`) gets none now.
    """
    if run.visualdl.is_dir():
        from simam_repro.training.visualdl_log import open_log

        with open_log(run.visualdl) as writer:
            writer.add_image(tag.replace("%", "_"), image, step=step)  # VisualDL refuses % in a tag


def log_figure(run: RunFolder, tag: str, figure, step: int = 0) -> None:
    """Add a figure to the end of the log of `run`: a matplotlib Figure, or the path of a PNG."""
    log_image(run, tag, _draw(figure) if isinstance(figure, Figure) else _read(figure), step)


def _draw(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _read(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
