"""The augmentation written plainly with Pillow, an image at a time: what `simam_repro.data.transforms` is held against.

It draws from its generator what the originals draw, in their order.
"""

import math

import numpy as np
from PIL import Image, ImageEnhance


def resized(image: Image.Image, size: int) -> Image.Image:
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BILINEAR)


def train_image(image: Image.Image, size: int, augment, rng) -> np.ndarray:
    """uint8 [size, size, 3]: resize, colour jitter, random resized crop, flip, rotation."""
    image = resized(image, augment.resize or size)
    if augment.color_jitter:
        image = jittered(image, augment.color_jitter, rng)
    if augment.crop_scale:
        image = cropped(image, size, augment.crop_scale, rng)
    if augment.flip and rng.random() < augment.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if augment.rotation:
        image = image.rotate(rng.uniform(-augment.rotation, augment.rotation), Image.Resampling.NEAREST)
    return np.asarray(resized(image, size))


def jittered(image: Image.Image, amount: float, rng) -> Image.Image:
    changes = [ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color]
    for which in rng.permutation(len(changes)):
        image = changes[which](image).enhance(rng.uniform(1 - amount, 1 + amount))
    return image


def cropped(image: Image.Image, size: int, scale, rng) -> Image.Image:
    width, height = image.size
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            left, top = int(rng.integers(width - across + 1)), int(rng.integers(height - down + 1))
            return resized(image.crop((left, top, left + across, top + down)), size)
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return resized(image.crop((left, top, left + side, top + side)), size)


def normalised(pixels: np.ndarray, mean, std) -> np.ndarray:
    """float64 [3, H, W]."""
    return ((pixels / 255 - mean) / std).transpose(2, 0, 1)
