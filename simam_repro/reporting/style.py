"""How every figure of this project is made: off screen, written whole, one look."""

import zlib

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

# Names of classes and data sets are text: a $ in them begins no formula.
matplotlib.rcParams["text.parse_math"] = False

ARM_COLOURS = (
    "#2a9d4a", "#b0307a", "#4fb3d9", "#8c4a1f", "#6a51c4", "#e07b00", "#c9b400", "#1b3a6b", "#e377c2", "#5f7f00",
    "#00857a", "#d62728",
)  # fmt: skip
ARM_MARKERS = ("^", "D", "v", "P", "X", "s", "*", "o", "<", ">", "h", "d")


def arm_looks(titles) -> dict[str, dict]:
    """{title: colour and marker} of arms: those of a title are the same in every figure, as far as there are enough.

    Where two of `titles` want the same colour, the plain network has it, or the first in the alphabet.
    """
    slots: dict[str, int] = {}
    for title in sorted(set(titles), key=lambda title: (title != "none", title.casefold())):
        wanted = zlib.crc32(title.encode())
        free = [slot for slot in range(len(ARM_COLOURS)) if slot not in slots.values()] or [0]
        slots[title] = min(free, key=lambda slot: (slot - wanted) % len(ARM_COLOURS))
    return {title: {"color": ARM_COLOURS[slots[title]], "marker": ARM_MARKERS[slots[title]]} for title in titles}


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
