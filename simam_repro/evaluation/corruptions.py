"""Common corruptions of images at five severities, after Hendrycks and Dietterich (ICLR 2019).

They change the uint8 image that the network is about to see, at its input size and before normalisation: an image
of CIFAR-10 that the config enlarges to 128 pixels is corrupted at 128 pixels. CORRUPTIONS has all parameters; those
without a remark are ImageNet-C's (github.com/hendrycks/robustness). What deviates from it:

- Lengths are ImageNet-C's pixels of a 224-pixel image; they scale with the image's side.
- Values are rounded to the nearest grey level; the original cuts them.
- fog is summed octaves of random values in the place of the diamond-square algorithm, of the mean of its decays.
  Its amounts are ours: ImageNet-C's make the fog finer with severity, which moves no further from the clean image.
- motion_blur is a line of ImageMagick's weights, interpolated between pixels.
- rotation and occlusion are ours. Glass and zoom blur, snow, frost, and elastic transforms are left out.
"""

import difflib
import functools
import io
import itertools
import math
import zlib
from dataclasses import dataclass
from typing import Callable

import cv2
import numpy as np
from PIL import Image

from simam_repro.errors import UserError

SEVERITIES = (1, 2, 3, 4, 5)
SEED = 2019  # of everything that is drawn here: one set of corrupted images for every run
REFERENCE_SIDE = 224  # pixels; the image side that lengths are given for


@dataclass(frozen=True)
class Corruption:
    """(uint8 image [S, S, 3], severity 1 to 5, rng) -> uint8 image [S, S, 3].

    Attributes:
        apply: (image, parameter, rng) -> image.
        parameters: one for each severity.
        what: the meaning and unit of a parameter.
    """

    apply: Callable
    parameters: tuple
    what: str

    def __call__(self, image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
        if severity not in SEVERITIES:
            raise UserError(f"severity {severity}: it is one of {', '.join(map(str, SEVERITIES))}")
        return self.apply(image, self.parameters[severity - 1], rng)


def corruption_rng(name: str, severity: int, sample_id: str) -> np.random.Generator:
    """What every network, every seed and every machine draws from for one image under one corruption."""
    return np.random.default_rng([SEED, zlib.crc32(name.encode()), severity, zlib.crc32(sample_id.encode())])


def check_corruptions(names) -> list[str]:
    """The names, as they are. Raises UserError for one that is not in CORRUPTIONS."""
    for name in names:
        if name not in CORRUPTIONS:
            near = difflib.get_close_matches(name, CORRUPTIONS, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(f"no corruption {name!r}; {hint}There are {', '.join(CORRUPTIONS)}")
    return list(names)


def describe_parameters() -> dict:
    """{name: {"what", "values" for the severities 1 to 5}}, of JSON's types."""
    return {
        name: {
            "what": corruption.what,
            "values": [list(value) if isinstance(value, tuple) else value for value in corruption.parameters],
        }
        for name, corruption in CORRUPTIONS.items()
    }


def _scaled(image: np.ndarray) -> float:
    """Pixels of this image to a pixel of an image of REFERENCE_SIDE."""
    return len(image) / REFERENCE_SIDE


def _unit(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) / 255


def _grey_levels(values: np.ndarray) -> np.ndarray:
    """Floats in 0..1 -> uint8, to the nearest; what lies outside is cut."""
    return np.rint(values.clip(0, 1) * 255).astype(np.uint8)


def _gaussian_noise(image, deviation, rng):
    return _grey_levels(_unit(image) + deviation * rng.standard_normal(image.shape, np.float32))


def _shot_noise(image, photons, rng):
    return _grey_levels(rng.poisson(_unit(image) * photons) / photons)


def _impulse_noise(image, share, rng):
    draw = rng.random(image.shape, np.float32)
    return np.where(draw < share, np.where(draw < share / 2, np.uint8(0), np.uint8(255)), image)


def _gaussian_blur(image, sigma, rng):
    sigma *= _scaled(image)
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)


def _defocus_blur(image, radius_and_softness, rng):
    kernel = _disk(*(length * _scaled(image) for length in radius_and_softness))
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT)


@functools.lru_cache
def _disk(radius: float, softness: float) -> np.ndarray:
    reach = np.arange(-math.ceil(radius) - 2, math.ceil(radius) + 3)
    # Nine by nine points a pixel, so that a disk of any radius grows smoothly.
    fine = (np.arange(9 * len(reach)) - (9 * len(reach) - 1) / 2) / 9
    disk = (fine[:, None] ** 2 + fine**2 <= radius**2).reshape(len(reach), 9, len(reach), 9).mean((1, 3))
    kernel = cv2.GaussianBlur(disk, (5, 5), softness)
    return kernel / kernel.sum()


def _motion_blur(image, radius_and_sigma, rng):
    radius, sigma = (length * _scaled(image) for length in radius_and_sigma)
    angle = math.radians(rng.uniform(-45, 45))
    side = math.ceil(2 * radius) + 2
    along = np.linspace(0, 2 * radius, 4 * side)
    weights = np.exp(-(along**2) / (2 * sigma**2))
    kernel = np.zeros((2 * side + 1, side))
    x, y = along * math.cos(angle), side + along * math.sin(angle)
    left, top = x.astype(int), y.astype(int)
    for right, low in itertools.product((0, 1), (0, 1)):  # the four pixels around each point of the line
        shares = np.abs(1 - right - (x - left)) * np.abs(1 - low - (y - top))
        np.add.at(kernel, (top + low, left + right), weights * shares)
    return cv2.filter2D(image, -1, kernel / kernel.sum(), anchor=(0, side), borderType=cv2.BORDER_REFLECT)


def _fog(image, amount, rng):
    pixels, cloud = _unit(image), _cloud(len(image), rng)
    brightest = pixels.max()
    return _grey_levels((pixels + amount * cloud[..., None]) * brightest / (brightest + amount))


def _cloud(side: int, rng) -> np.ndarray:
    """float32 [side, side] from 0 to 1: octaves of random grids, each twice as fine and a third as strong."""
    cloud, strength, cells = np.zeros((side, side), np.float32), 1.0, 2
    while cells <= side:
        grid = rng.uniform(-strength, strength, (cells + 1, cells + 1)).astype(np.float32)
        cloud += cv2.resize(grid, (side, side), interpolation=cv2.INTER_LINEAR)
        cells, strength = 2 * cells, strength / 3
    return (cloud - cloud.min()) / (cloud.max() - cloud.min())


def _brightness(image, added, rng):
    # The value of HSV is the largest channel; raising it scales all three.
    pixels = _unit(image)
    value = pixels.max(axis=2, keepdims=True)
    raised = np.minimum(value + added, 1)
    return _grey_levels(pixels * (raised / np.maximum(value, 1e-6)) + (value == 0) * raised)


def _contrast(image, factor, rng):
    pixels = _unit(image)
    mean = pixels.mean(axis=(0, 1))
    return _grey_levels((pixels - mean) * factor + mean)


def _jpeg(image, quality, rng):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def _pixelate(image, share, rng):
    side = len(image)
    blocks = max(1, int(side * share))
    small = Image.fromarray(image).resize((blocks, blocks), Image.Resampling.BOX)
    return np.asarray(small.resize((side, side), Image.Resampling.NEAREST))


def _rotation(image, degrees, rng):
    centre = ((len(image) - 1) / 2,) * 2
    matrix = cv2.getRotationMatrix2D(centre, degrees * rng.choice((-1, 1)), 1.0)
    return cv2.warpAffine(image, matrix, image.shape[:2], flags=cv2.INTER_LINEAR)


def _occlusion(image, share, rng):
    side = len(image)
    covered = round(side * math.sqrt(share))
    top, left = rng.integers(side - covered + 1, size=2)
    image = image.copy()
    image[top : top + covered, left : left + covered] = 127
    return image


CORRUPTIONS = {
    "gaussian_noise": Corruption(
        _gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38), "standard deviation, of pixels from 0 to 1"
    ),
    "shot_noise": Corruption(_shot_noise, (60, 25, 12, 5, 3), "photons of a white pixel (Poisson)"),
    "impulse_noise": Corruption(
        _impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27), "share of values that become black or white"
    ),
    "gaussian_blur": Corruption(_gaussian_blur, (1, 2, 3, 4, 6), "sigma in pixels of a 224-pixel image"),
    "defocus_blur": Corruption(
        _defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        "radius of the disk and sigma of its edge in pixels of a 224-pixel image",
    ),
    "motion_blur": Corruption(
        _motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        "half length of the line and sigma of its weights in pixels of a 224-pixel image; within 45 degrees of level",
    ),
    "fog": Corruption(_fog, (0.5, 1, 1.5, 2, 3), "amount of fog (ours)"),
    "brightness": Corruption(_brightness, (0.1, 0.2, 0.3, 0.4, 0.5), "added to the value of HSV, from 0 to 1"),
    "contrast": Corruption(_contrast, (0.4, 0.3, 0.2, 0.1, 0.05), "factor on the distance from the channel's mean"),
    "jpeg": Corruption(_jpeg, (25, 18, 15, 10, 7), "quality of Pillow's encoder"),
    "pixelate": Corruption(_pixelate, (0.6, 0.5, 0.4, 0.3, 0.25), "blocks along a side, as a share of its pixels"),
    "rotation": Corruption(_rotation, (9, 18, 27, 36, 45), "degrees, either way; bilinear, black corners (ours)"),
    "occlusion": Corruption(
        _occlusion, (0.05, 0.1, 0.2, 0.3, 0.45), "share of the area that a grey square covers, anywhere (ours)"
    ),
}  # fmt: skip
