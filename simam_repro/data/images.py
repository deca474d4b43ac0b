"""Opening image files that anyone may have made."""

import os
import stat
import threading
import warnings
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps

from simam_repro.errors import UserError

# What data sets are made of. Pillow reads dozens more, some by starting other programs (EPS by Ghostscript).
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .png .bmp .gif .webp .tif .tiff .ppm .pgm .pbm .pnm".split())
# Without TIFF: the raw files of cameras are such, with a small picture for a preview.
FORMATS_WITHOUT_SUFFIX = tuple(kind for kind in FORMATS if kind != "TIFF")
# A data set's way out that a lone image has not.
OR_SKIP = ", or leave such images out: data.skip_damaged=true (--skip-damaged)"
MAX_PIXELS = 2 * Image.MAX_IMAGE_PIXELS  # 178,956,970: above, Pillow takes a file for a decompression bomb
# libwebp takes 16 bytes a pixel and more, other decoders 4 to 8: a file of 34 bytes would take 3 GB.
MAX_WEBP_PIXELS = 2**26
# All threads together; what is larger is decoded alone. A photo of 20 million pixels three times over.
MAX_PIXELS_AT_ONCE = 2**26
_BAND = 512  # rows whose transparency is put over white at a time
# Its warning from half of that on says nothing new, nor does what it says of odd metadata.
warnings.filterwarnings("ignore", module=r"PIL\.")


class _Turns:
    """Lets threads in as long as what they take together is within `limit`, or one alone."""

    def __init__(self, limit: int):
        self.limit, self.taken, self.changed = limit, 0, threading.Condition()

    @contextmanager
    def take(self, amount: int):
        with self.changed:
            self.changed.wait_for(lambda: not self.taken or self.taken + amount <= self.limit)
            self.taken += amount
        try:
            yield
        finally:
            with self.changed:
                self.taken -= amount
                self.changed.notify_all()


_turns = _Turns(MAX_PIXELS_AT_ONCE)


def open_image(source, where=None) -> Image.Image:
    """An image file (path or binary file) as upright RGB: EXIF orientation applied, transparency over white.

    Grey values of more than 8 bits are scaled to 8: whole numbers from the smallest of 8, 12 and 16 bits that the
    image's largest value fits in, real ones from 0 to 1 or, where one is above 1, from 0 to 255.

    Raises:
        UserError: not an image of FORMATS, no regular file, damaged, with values outside of these ranges, or above
            MAX_PIXELS or MAX_WEBP_PIXELS; begins with `where` (default: the path).
    """
    where = where or source
    try:
        with _opened(source) as file, Image.open(file, formats=FORMATS) as image:
            limit = MAX_WEBP_PIXELS if image.format == "WEBP" else MAX_PIXELS
            if image.width * image.height > limit:
                raise UserError(f"{where} has more than {limit / 1e6:.0f} million pixels; scale it down")
            with _turns.take(image.width * image.height):
                return _upright_rgb(image, where)
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(f"{where} has more than {MAX_PIXELS / 1e6:.0f} million pixels; scale it down") from None
    except Image.UnidentifiedImageError:
        raise UserError(f"{where} is no image of the kinds {', '.join(FORMATS)}; replace or remove it") from None
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise UserError(f"{where} is damaged and does not decode ({error}); replace or remove it") from None


def is_image(name: str, source) -> bool:
    """Whether a file is to be taken for an image: by its suffix, else by what it holds.

    Args:
        source: gives the file, a path or a binary file, where its suffix does not tell.
    """
    if os.path.splitext(name)[1].lower() in SUFFIXES:
        return True
    try:
        with _opened(source()) as file, Image.open(file, formats=FORMATS_WITHOUT_SUFFIX):
            return True
    except Image.DecompressionBombError:
        return True
    except Exception:  # Pillow raises many kinds
        return False


@contextmanager
def _opened(source):
    """A binary file as it is, a path opened. Raises OSError for a pipe or a device, which might never end."""
    if hasattr(source, "read"):
        yield source
        return
    with open(os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("it is no regular file")
        yield file


def _upright_rgb(image: Image.Image, where) -> Image.Image:
    image.load()
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # damaged EXIF: the pixels are what counts
        pass
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_eight_bits(np.asarray(image), where))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return _over_white(image)
    return image.convert("RGB")


def _eight_bits(values: np.ndarray, where) -> np.ndarray:
    """uint8 [H, W] of grey values, see `open_image`."""
    low, high = values.min(), values.max()
    if np.issubdtype(values.dtype, np.floating):
        if not (low >= 0 and high <= 255):
            raise UserError(f"{where} has values from {low:g} to {high:g}: scale them to 0..1 or 0..255")
        return (values * (255 if high <= 1 else 1) + 0.5).astype(np.uint8)
    if low < 0 or high >= 2**16:
        raise UserError(f"{where} has values from {low} to {high}: scale them to 8 or 16 bits")
    shift = next(bits for bits in (8, 12, 16) if high < 2**bits) - 8
    return (values >> shift).astype(np.uint8)


def _over_white(image: Image.Image) -> Image.Image:
    whole = Image.new("RGB", image.size)
    for top in range(0, image.height, _BAND):
        band = image.crop((0, top, image.width, min(top + _BAND, image.height))).convert("RGBA")
        white = Image.new("RGBA", band.size, "white")
        whole.paste(Image.alpha_composite(white, band).convert("RGB"), (0, top))
    return whole
