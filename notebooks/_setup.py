"""First import of every notebook: the project on the path, Paddle's settings, figures that stay small."""

import io
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from simam_repro.cli import process  # noqa: E402

process.set_paddle_defaults()

from IPython.display import Image as Display  # noqa: E402
from PIL import Image  # noqa: E402

from simam_repro.config import PROJECT_ROOT  # noqa: E402
from simam_repro.data.archives import Source, archive_folders, find  # noqa: E402

WIDTH = 900  # pixels; notebooks are committed with their figures


def has_data(dataset: str, source: Source) -> bool:
    """Whether a data set is on this machine, unpacked or as its archive: a notebook downloads nothing."""
    folder = PROJECT_ROOT / "data"
    return (folder / dataset / "manifest.json").is_file() or bool(find(source, archive_folders()))


def show(figure, width: int = WIDTH) -> Display:
    """A matplotlib Figure or an image file as a notebook's output: PNG or JPEG, whichever is smaller."""
    if not isinstance(figure, (str, Path)):
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=100)
        figure = buffer
    image = Image.open(figure).convert("RGB")
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    encoded = [_encode(image, "png", optimize=True), _encode(image, "jpeg", quality=85, optimize=True)]
    return Display(data=min(encoded, key=len))


def _encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
