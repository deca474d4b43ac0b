"""Opening image files that anyone may have made."""

import warnings

import numpy as np
from PIL import Image, ImageOps

from simam_repro.errors import UserError

# What data sets are made of. Pillow reads dozens more, some by starting other programs (EPS by Ghostscript).
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
# A data set's way out that a lone image has not.
OR_SKIP = ", or leave such images out: data.skip_damaged=true (--skip-damaged)"
MAX_PIXELS = 2 * Image.MAX_IMAGE_PIXELS  # 178,956,970: above, Pillow takes a file for a decompression bomb
# Its warning from half of that on says nothing new, nor does what it says of odd metadata.
warnings.filterwarnings("ignore", module=r"PIL\.")


def open_image(source, where=None) -> Image.Image:
    """An image file (path or binary file) as upright RGB: EXIF orientation applied, 16 bits cut to 8,
    transparency over white.

    Raises:
        UserError: not an image of FORMATS, damaged, or above MAX_PIXELS; begins with `where` (default: the path).
    """
    where = where or source
    try:
        with Image.open(source, formats=FORMATS) as image:
            return _upright_rgb(image)
    except Image.DecompressionBombError:
        raise UserError(f"{where} has more than {MAX_PIXELS / 1e6:.0f} million pixels; scale it down") from None
    except Image.UnidentifiedImageError:
        raise UserError(f"{where} is no image of the kinds {', '.join(FORMATS)}; replace or remove it") from None
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise UserError(f"{where} is damaged and does not decode ({error}); replace or remove it") from None


def _upright_rgb(image: Image.Image) -> Image.Image:
    image.load()
    try:
        image = ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF: the pixels are what counts
        pass
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
