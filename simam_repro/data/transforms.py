"""From an image to the array a network sees: resize, augment, normalise. Images are uint8 [H, W, 3], RGB.

Every random draw comes from the generator that the caller passes, one per (seed, epoch, image), so
an image's augmentation does not depend on worker threads or on the order of the others.
"""

import math

import cv2
import numpy as np
from PIL import Image

from simam_repro.config import Augment

# One thread an image: the threads of BatchLoader work side by side, and the network has the other cores.
cv2.setNumThreads(0)

# Added where OpenCV rounds to the nearest: almost 0.5 less, and it cuts, as Pillow does.
CUT = -0.4995
LOG_RATIO = math.log(4 / 3)


def eval_image(image, image_size: int) -> np.ndarray:
    """RGB image (of Pillow, or an array) -> uint8 [image_size, image_size, 3]."""
    return resize(np.asarray(image), image_size)


def train_image(pixels: np.ndarray, image_size: int, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """uint8 [augment.resize or image_size squared, 3] -> uint8 [image_size, image_size, 3], changed at random."""
    if augment.color_jitter:
        pixels = COLOR_JITTERS[augment.jitter](pixels, augment.color_jitter, rng)
    if augment.pad_crop:
        pixels = padded_crop(pixels, augment.pad_crop, rng)
    if augment.crop_scale:
        pixels = random_resized_crop(pixels, image_size, augment.crop_scale, rng)
    flip = augment.flip and rng.random() < augment.flip
    if augment.rotation:
        pixels = rotate(pixels, _uniform(rng, -augment.rotation, augment.rotation), flip)
    elif flip:
        pixels = cv2.flip(pixels, 1)
    return resize(pixels, image_size)


def resize(pixels: np.ndarray, size: int, slack: float = 1.0) -> np.ndarray:
    """Bilinear, to size x size; where it shrinks with Pillow, which averages over all that a pixel covers.

    Enlarging is the same in both but for rounding (a difference of at most 1), and faster in OpenCV, which
    also shrinks by factors up to `slack`.
    """
    height, width, _ = pixels.shape
    if height == width == size:
        return pixels
    if max(height, width) <= size * slack:
        return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


def color_jitter(pixels: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast and saturation times a factor in [1 - amount, 1 + amount], in random order.

    Each blends the image with another: with black, with its mean grey, with itself in grey. As a factor below 1
    leads nowhere outside 0..255, its blend needs no cut of its own, and is made together with the next.
    """
    own, grey, add = 1.0, 0.0, 0.0  # what is still to be made: own * pixels + grey * pixels in grey + add
    for step, change in enumerate(rng.permutation(3), start=1):
        factor = _uniform(rng, 1 - amount, 1 + amount)
        if change == 0:  # brightness
            other_grey, other_add = 0.0, 0.0
        elif change == 1:  # contrast
            mean = cv2.mean(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))[0]
            other_grey, other_add = 0.0, int((own + grey) * mean + add + 0.5)
        else:  # saturation
            other_grey, other_add = own + grey, add
        own *= factor
        grey = factor * grey + (1 - factor) * other_grey
        add = factor * add + (1 - factor) * other_add + CUT
        if factor >= 1 or step == 3:
            pixels = _mixed_with_grey(pixels, own, grey, add)
            own, grey, add = 1.0, 0.0, 0.0
    return pixels


def _mixed_with_grey(pixels: np.ndarray, own: float, grey: float, add: float) -> np.ndarray:
    """own * pixels + grey * pixels in grey + add, rounded and cut to 0..255."""
    if not grey:
        return cv2.addWeighted(pixels, own, pixels, 0, add)
    # Whole 1024ths, as cv2.transform calculates with, of the right sum: what is grey stays grey.
    red, green, blue = (round(weight * grey * 1024) / 1024 for weight in (0.299, 0.587, 0.114))
    own += grey - red - green - blue
    rows = [[own + red, green, blue, add], [red, own + green, blue, add], [red, green, own + blue, add]]
    return cv2.transform(pixels, np.array(rows))


def color_jitter_cv2(pixels: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """What Paddle's ColorJitter does with arrays (`paddle.vision.transforms` on its cv2 backend), quirks included.

    Contrast is about the fixed level 74. The factor of the saturation, f in [1 - amount, 1 + amount], is drawn a second
    time, from [max(0, 1 - f), 1 + f]; its grey has the weights of red and blue exchanged. Every step cuts decimals.
    """
    levels = np.arange(256)
    for change in rng.permutation(3):
        factor = _uniform(rng, 1 - amount, 1 + amount)
        if change == 0:  # brightness
            pixels = cv2.LUT(pixels, (levels * factor).clip(0, 255).astype(np.uint8))
        elif change == 1:  # contrast
            pixels = cv2.LUT(pixels, ((levels - 74) * factor + 74).clip(0, 255).astype(np.uint8))
        else:  # saturation
            own = _uniform(rng, max(0, 1 - factor), 1 + factor)
            exact = pixels.astype(np.float32)
            grey = cv2.cvtColor(exact, cv2.COLOR_BGR2GRAY)[..., None]
            pixels = (exact * own + grey * (1 - own)).clip(0, 255).astype(np.uint8)
    return pixels


COLOR_JITTERS = {"pillow": color_jitter, "cv2": color_jitter_cv2}


def padded_crop(pixels: np.ndarray, padding: int, rng: np.random.Generator) -> np.ndarray:
    """A random crop of the image's own size out of the image with `padding` black pixels on each side."""
    height, width, _ = pixels.shape
    padded = cv2.copyMakeBorder(pixels, padding, padding, padding, padding, cv2.BORDER_CONSTANT)
    top, left = (int(place) for place in rng.integers(2 * padding + 1, size=2))
    return padded[top : top + height, left : left + width]


def random_resized_crop(pixels: np.ndarray, size: int, scale, rng: np.random.Generator) -> np.ndarray:
    """Crop a random area fraction in `scale` with aspect ratio 3:4 to 4:3, resized to size x size."""
    height, width, _ = pixels.shape
    for _ in range(10):
        area = width * height * _uniform(rng, *scale)
        ratio = math.exp(_uniform(rng, -LOG_RATIO, LOG_RATIO))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(rng.integers(width - crop_width + 1))
            top = int(rng.integers(height - crop_height + 1))
            break
    else:  # no ratio fitted: the largest centred square
        crop_width = crop_height = min(width, height)
        left, top = (width - crop_width) // 2, (height - crop_height) // 2
    # The originals' crops are never averaged; where that is as good as unseen, it is not worth the time.
    return resize(pixels[top : top + crop_height, left : left + crop_width], size, slack=1.1)


def rotate(pixels: np.ndarray, degrees: float, flip: bool = False) -> np.ndarray:
    """Counter-clockwise about the centre; nearest neighbour and black corners, as the originals' RandomRotation.

    With `flip`, of the image flipped left to right.
    """
    height, width, _ = pixels.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    if flip:
        matrix[:, 2] += matrix[:, 0] * (width - 1)
        matrix[:, 0] *= -1
    # A pixel as one number of four bytes, which OpenCV moves faster than three bytes.
    whole = cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA).view(np.int32)
    turned = cv2.warpAffine(whole, matrix, (width, height), flags=cv2.INTER_NEAREST)
    return cv2.cvtColor(turned[..., None].view(np.uint8), cv2.COLOR_RGBA2RGB)


def normalise(images, mean, std, count: int | None = None) -> np.ndarray:
    """N uint8 images [H, W, 3] -> float32 [N, 3, H, W]: (image / 255 - mean) / std per channel.

    `images` may be a generator, of `count` images: each is then still in the processor's cache.
    """
    mean, std = (np.asarray(value, np.float64).reshape(3, 1, 1) for value in (mean, std))
    scale, shift = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
    batch = None
    for position, image in enumerate(images):
        if batch is None:
            batch = np.empty((count or len(images), 3, *image.shape[:2]), np.float32)
            planes = np.empty(batch.shape[1:], np.uint8)
        cv2.split(image, list(planes))
        # Three steps in the cache are quicker than one that changes type as it goes.
        target = batch[position]
        np.copyto(target, planes)
        target *= scale
        target += shift
    return batch


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """What rng.uniform(low, high) draws, in a third of its time."""
    return low + (high - low) * rng.random()
