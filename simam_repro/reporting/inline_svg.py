"""A figure as SVG within a page: text as text, colours as the page's variables, so that they follow light and dark."""

import io
import re
import warnings
import zlib

import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure

# Colours that change on a dark page: of text, lines and fills here, and what they are there.
DARK = {
    "#000000": "#e4e7eb", "#ffffff": "#16191d", "#b0b0b0": "#525a64", "#cccccc": "#3c434b", "#7f7f7f": "#9aa3ad",
    "#5a5a5a": "#aab2bc", "#8a8a8a": "#8f98a3", "#1f6fb4": "#6db3f2", "#b87800": "#e5a93c", "#00857a": "#3fc1b4",
    "#1b3a6b": "#8fb3ee", "#8c4a1f": "#d59263", "#6a51c4": "#a895f2", "#b0307a": "#e87ab8", "#5f7f00": "#a3c639",
    "#d62728": "#ff7b72", "#2a9d4a": "#4cc26d",
}  # fmt: skip


def variable(colour: str) -> str:
    """The name of a colour's variable."""
    return f"--fig-{colour[1:]}"


def inline_svg(figure: Figure, alt: str) -> Markup:
    """The <svg> element of a figure, `alt` for those who do not see it. The same figure gives the same text."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "report", "svg.fonttype": "none"}), warnings.catch_warnings():
        # The page's fonts have the letters that this machine's may lack.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    _, _, drawing = buffer.getvalue().partition("<svg ")
    view_box = re.search(r'viewBox="[^"]*"', drawing)[0]
    body = drawing.partition(">")[2]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"(font: [^'\";]*px) [^;\"]*", r"\1 var(--sans)", body)
    body = re.sub(r"#[0-9a-f]{6}\b", lambda found: _themed(found[0]), body)
    # Ids are the page's: those of several figures must differ.
    prefix = f"f{zlib.crc32((alt + body).encode()):08x}"
    body = re.sub(r'( id="|url\(#|xlink:href="#)', rf"\1{prefix}-", body)
    body = re.sub(r"\n\s*", "\n", body)
    opening = f'<svg {view_box} role="img" aria-label="{escape(alt)}">'
    return Markup(opening + body)


def _themed(colour: str) -> str:
    return f"var({variable(colour)})" if colour in DARK else colour
