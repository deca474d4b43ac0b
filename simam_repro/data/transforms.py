"""From an image to the array a network sees: resize, augment, normalise.

Every random draw comes from the generator that the caller passes, one per (seed, epoch, image), so
an image's augmentation does not depend on worker processes or on the order of the others.
"""

import math

import numpy as np
from PIL import Image, ImageEnhance

from simam_repro.config import Augment


def eval_image(image: Image.Image, image_size: int) -> np.ndarray:
    """RGB image -> uint8 [image_size, image_size, 3]."""
    return np.asarray(_resize(image, image_size))


def train_image(image: Image.Image, image_size: int, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """RGB image -> uint8 [image_size, image_size, 3], changed at random as `augment` says."""
    image = _resize(image, augment.resize or image_size)
    if augment.color_jitter:
        image = color_jitter(image, augment.color_jitter, rng)
    if augment.crop_scale:
        image = random_resized_crop(image, image_size, augment.crop_scale, rng)
    if augment.flip and rng.random() < augment.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if augment.rotation:
        # Nearest neighbour and black corners, the defaults of the originals' RandomRotation.
        image = image.rotate(rng.uniform(-augment.rotation, augment.rotation), Image.Resampling.NEAREST)
    return np.asarray(_resize(image, image_size))


def color_jitter(image: Image.Image, amount: float, rng: np.random.Generator) -> Image.Image:
    """Brightness, contrast and saturation times a factor in [1 - amount, 1 + amount], in random order."""
    changes = [ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color]
    for which in rng.permutation(len(changes)):
        image = changes[which](image).enhance(rng.uniform(1 - amount, 1 + amount))
    return image


def random_resized_crop(image: Image.Image, size: int, scale, rng: np.random.Generator) -> Image.Image:
    """Crop a random area fraction in `scale` with aspect ratio 3:4 to 4:3, resized to size x size."""
    width, height = image.size
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(rng.integers(width - crop_width + 1))
            top = int(rng.integers(height - crop_height + 1))
            break
    else:  # no ratio fitted: the largest centred square
        crop_width = crop_height = min(width, height)
        left, top = (width - crop_width) // 2, (height - crop_height) // 2
    box = (left, top, left + crop_width, top + crop_height)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)


def normalise(images: np.ndarray, mean, std) -> np.ndarray:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W]: (image / 255 - mean) / std per channel."""
    scale = np.float32(1.0) / (np.float32(255.0) * np.asarray(std, np.float32))
    offset = np.asarray(mean, np.float32) / np.asarray(std, np.float32)
    return np.ascontiguousarray((images * scale - offset).transpose(0, 3, 1, 2))


def _resize(image: Image.Image, size: int) -> Image.Image:
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BILINEAR)
