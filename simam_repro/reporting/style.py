"""How every figure of this project is made: off screen, written whole, one look."""

import matplotlib

matplotlib.use("Agg")

from matplotlib.figure import Figure  # noqa: E402
from matplotlib.font_manager import get_font_names  # noqa: E402

from simam_repro.runs import STAND_IN_NOTE  # noqa: E402
from simam_repro.storage import atomic_path  # noqa: E402

# Class names may be Chinese, Japanese or Korean: fonts for the letters that matplotlib's own lacks, where installed.
CJK_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
    "Droid Sans Fallback", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB", "Arial Unicode MS",
)  # fmt: skip
matplotlib.rcParams["font.family"] = [
    "sans-serif",
    *sorted(set(CJK_FONTS) & set(get_font_names()), key=CJK_FONTS.index),
]


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
