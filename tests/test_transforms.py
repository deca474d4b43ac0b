import math
import random

import numpy as np
import plain_images
import pytest
from paddle.vision.transforms import ColorJitter, functional_cv2
from PIL import Image

from simam_repro.config import Augment, Data
from simam_repro.data import transforms
from simam_repro.data.loaders import ImageDataset
from simam_repro.data.prepared import ArrayImages, Split

AUGMENT = Augment(resize=40, color_jitter=0.2, crop_scale=(0.6, 1.0), flip=0.5, rotation=20.0)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def noise(height=30, width=40, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def image(*args, **kwargs) -> Image.Image:
    return Image.fromarray(noise(*args, **kwargs))


def generator(seed=0):
    return np.random.default_rng(seed)


def train_image(source: Image.Image, size: int, augment: Augment, rng) -> np.ndarray:
    """As a loader does it: what needs no draw first, then the rest."""
    return transforms.train_image(transforms.eval_image(source, augment.resize or size), size, augment, rng)


# normalise


def test_normalise_against_float64():
    images = np.stack([noise(seed=seed) for seed in range(3)])
    expected = np.empty((3, 3, 30, 40))
    for channel in range(3):
        expected[:, channel] = (images[..., channel].astype(np.float64) / 255 - MEAN[channel]) / STD[channel]
    result = transforms.normalise(images, MEAN, STD)
    assert result.dtype == np.float32 and result.flags.c_contiguous
    np.testing.assert_allclose(result, expected, rtol=0, atol=2e-6)


# evaluation


def test_eval_is_a_bilinear_resize():
    expected = np.asarray(image().resize((24, 24), Image.Resampling.BILINEAR))
    result = transforms.eval_image(image(), 24)
    assert np.array_equal(result, expected) and result.dtype == np.uint8
    assert np.array_equal(transforms.eval_image(image(), 24), result)


@pytest.mark.parametrize(("side", "size"), [(32, 128), (32, 130), (20, 33), (100, 256)])
def test_enlarging_is_pillows_to_one_level(side, size):
    expected = np.asarray(image(side, side).resize((size, size), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(transforms.eval_image(image(side, side), size) - expected).max() <= 1


def test_eval_leaves_an_image_of_the_right_size_alone():
    assert np.array_equal(transforms.eval_image(image(32, 32), 32), noise(32, 32))


# training


def test_no_augmentation_is_evaluation():
    result = train_image(image(), 24, Augment(), generator())
    assert np.array_equal(result, transforms.eval_image(image(), 24))


def test_train_image_has_the_size_of_the_network():
    result = train_image(image(), 32, AUGMENT, generator())
    assert result.shape == (32, 32, 3) and result.dtype == np.uint8


def test_augmentation_is_its_generator():
    first, same, other = (train_image(image(), 32, AUGMENT, generator(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_resize_comes_before_the_rest():
    # A wide image first becomes a square, whose whole area is then taken: nothing is cut off.
    augment = Augment(resize=16, crop_scale=(1.0, 1.0))
    square = image(20, 60).resize((16, 16), Image.Resampling.BILINEAR)
    expected = np.asarray(square.resize((24, 24), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(train_image(image(20, 60), 24, augment, generator()) - expected).max() <= 1


# colour jitter


def test_brightness_scales_a_grey_image_by_a_factor_in_range():
    # Contrast and saturation leave a constant grey as it is, so what is left is the brightness.
    grey = np.full((4, 4, 3), 100, np.uint8)
    results = [transforms.color_jitter(grey, 0.2, generator(seed)) for seed in range(200)]
    factors = np.array([result[0, 0, 0] / 100 for result in results])
    assert all((result == result[0, 0, 0]).all() for result in results)
    assert factors.min() >= 0.79 and factors.max() <= 1.21
    assert factors.min() < 0.82 and factors.max() > 1.18
    assert abs(factors.mean() - 1) < 0.03


def test_contrast_and_saturation_factors_are_in_range():
    # Brightness and contrast stretch all differences alike, saturation those inside a pixel only.
    pixels = np.array([[[60] * 3, [140] * 3, [140, 100, 60]]], np.uint8)
    contrasts, saturations = [], []
    for seed in range(200):
        jittered = transforms.color_jitter(pixels, 0.2, generator(seed))
        (dark, _, _), (light, _, _), (red, _, blue) = jittered.astype(np.float64)[0]
        contrasts.append((light - dark) / (light + dark) / (80 / 200))
        saturations.append((red - blue) / (light - dark))
    for factors in (np.array(contrasts), np.array(saturations)):
        assert 0.77 < factors.min() < 0.84 and 1.16 < factors.max() < 1.23
        assert abs(factors.mean() - 1) < 0.03


def test_jitter_of_nothing_is_the_image():
    assert np.array_equal(transforms.color_jitter(noise(), 0.0, generator()), noise())


# random resized crop


def crop_boxes(scale, size=64, side=250, count=300):
    """(width, height, left, top) of each crop, read off an image whose pixels are their coordinates."""
    coordinates = np.zeros((side, side, 3), np.uint8)
    coordinates[..., 0] = np.arange(side)
    coordinates[..., 1] = np.arange(side)[:, None]
    boxes = []
    for seed in range(count):
        crop = transforms.random_resized_crop(coordinates, size, scale, generator(seed))
        assert crop.shape == (size, size, 3)
        columns, rows = crop[size // 2, :, 0], crop[:, size // 2, 1]
        # Inner pixels: at the border, bilinear resampling has fewer neighbours.
        inner = slice(8, size - 8)
        steps = [np.polyfit(np.arange(size)[inner], line[inner].astype(float), 1) for line in (columns, rows)]
        (across, left), (down, top) = steps
        boxes.append((across * size, down * size, left - across / 2 + 0.5, top - down / 2 + 0.5))
    return np.array(boxes)


def test_crops_are_in_scale_and_ratio():
    widths, heights, _, _ = crop_boxes((0.3, 0.7)).T
    areas, ratios = widths * heights / 250**2, widths / heights
    assert areas.min() > 0.29 and areas.max() < 0.71
    assert areas.min() < 0.33 and areas.max() > 0.67
    assert ratios.min() > 0.73 and ratios.max() < 1.36
    assert ratios.min() < 0.8 and ratios.max() > 1.25


def test_crops_lie_inside_and_everywhere():
    widths, heights, left, top = crop_boxes((0.3, 0.7)).T
    assert left.min() > -1 and top.min() > -1
    assert (left + widths).max() < 251 and (top + heights).max() < 251
    assert left.min() < 5 and (left + widths).max() > 245 and top.min() < 5 and (top + heights).max() > 245


def test_the_whole_image_when_no_ratio_fits():
    result = transforms.random_resized_crop(noise(50, 50), 24, (1.0, 1.0), generator())
    assert np.array_equal(result, np.asarray(image(50, 50).resize((24, 24), Image.Resampling.BILINEAR)))


def test_largest_centred_square_of_a_strip():
    strip = np.zeros((10, 200, 3), np.uint8)
    strip[:, 95:105] = 255
    result = transforms.random_resized_crop(strip, 10, (1.0, 1.0), generator())
    assert (result == 255).all()


# flip and rotation


@pytest.mark.parametrize(
    ("probability", "fewest", "most"), [(0.0, 0, 0), (0.5, 160, 240), (0.1, 16, 64), (1.0, 400, 400)]
)
def test_flip_probability(probability, fewest, most):
    plain, flipped = noise(8, 8), noise(8, 8)[:, ::-1]
    flips = 0
    for seed in range(400):
        result = train_image(image(8, 8), 8, Augment(flip=probability), generator(seed))
        flips += np.array_equal(result, flipped)
        assert np.array_equal(result, flipped) or np.array_equal(result, plain)
    assert fewest <= flips <= most


def angle_of(pixels) -> float:
    """Degrees that a bright spot, first right of the centre, has turned."""
    y, x = np.nonzero(pixels[..., 0] > 128)
    centre = (pixels.shape[0] - 1) / 2
    return math.degrees(math.atan2(centre - y.mean(), x.mean() - centre))


def test_rotation_is_bounded_both_ways():
    spot = np.zeros((101, 101, 3), np.uint8)
    spot[48:53, 88:93] = 255
    augment = Augment(rotation=10)
    turned = [train_image(Image.fromarray(spot), 101, augment, generator(seed)) for seed in range(200)]
    angles = np.array([angle_of(pixels) for pixels in turned])
    assert np.abs(angles).max() < 11
    assert angles.min() < -8.5 and angles.max() > 8.5
    assert abs(angles.mean()) < 1.5


def test_rotation_fills_with_black():
    white = Image.new("RGB", (32, 32), (255, 255, 255))
    pixels = np.asarray(train_image(white, 32, Augment(rotation=45), generator(3)))
    assert set(np.unique(pixels)) == {0, 255}
    assert (pixels[16, 16] == 255).all()


# jitter as Paddle's cv2 backend


def of_paddle(pixels, rng, monkeypatch):
    """Paddle's own functions with the draws of `rng`; it draws the saturation's second factor by itself."""
    low, high = 0.8, 1.2
    for change in rng.permutation(3):
        factor = low + (high - low) * rng.random()
        if change == 2:
            monkeypatch.setattr(functional_cv2.np.random, "uniform", lambda a, b: a + (b - a) * rng.random())
        name = ("adjust_brightness", "adjust_contrast", "adjust_saturation")[change]
        pixels = getattr(functional_cv2, name)(pixels, factor)
    return pixels


@pytest.mark.parametrize("seed", range(12))
def test_cv2_jitter_is_paddles(seed, monkeypatch):
    pixels = np.asarray(photo(24, seed))
    expected = of_paddle(pixels, generator(seed), monkeypatch)
    ours = train_image(pixels, 24, Augment(color_jitter=0.2, jitter="cv2"), generator(seed))
    assert ours.dtype == np.uint8 and np.array_equal(ours, expected)


def test_cv2_jitter_draws_as_paddles_color_jitter():
    """Mean and spread over many draws of a colour, against the ColorJitter of the original."""
    pixels = np.full((1, 1, 3), (200, 120, 60), np.uint8)
    paddles = ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)
    random.seed(0)
    np.random.seed(0)
    theirs = np.stack([paddles(pixels) for _ in range(4000)]).reshape(-1, 3).astype(float)
    ours = np.stack([transforms.color_jitter_cv2(pixels, 0.2, generator(seed)) for seed in range(4000)])
    ours = ours.reshape(-1, 3).astype(float)
    assert np.abs(ours.mean(0) - theirs.mean(0)).max() < 2.5
    assert np.abs(ours.std(0) / theirs.std(0) - 1).max() < 0.06


# pad and crop


def test_pad_crop_is_numpys():
    pixels, seen = noise(30, 30), set()
    for seed in range(100):
        top, left = generator(seed).integers(9, size=2)
        expected = np.pad(pixels, ((4, 4), (4, 4), (0, 0)))[top : top + len(pixels), left : left + len(pixels)]
        assert np.array_equal(train_image(pixels, len(pixels), Augment(pad_crop=4), generator(seed)), expected)
        seen.add((top, left))
    assert {top for top, _ in seen} == {left for _, left in seen} == set(range(9))


def test_pad_crop_follows_from_seed_epoch_and_index():
    split = Split(ArrayImages(np.stack([noise(30, 30)] * 3)), np.zeros(3, np.int64), tuple("abc"))
    config = Data(dataset="cifar10", image_size=30, augment=Augment(pad_crop=4, flip=0.5))
    first, again, other = (ImageDataset(split, config, seed) for seed in (1, 1, 2))
    keys = [(epoch, index) for epoch in (1, 2) for index in range(3)]
    images = [first[key].tobytes() for key in keys]
    assert images == [again[key].tobytes() for key in reversed(keys)][::-1]
    assert images != [other[key].tobytes() for key in keys] and len(set(images)) > 3


# the whole chain against Pillow's, written plainly

CHAINS = {
    "cifar10": (32, 128, Augment(resize=130, color_jitter=0.2, crop_scale=(0.6, 1.0), flip=0.5, rotation=20.0)),
    "caltech": (90, 64, Augment(rotation=10.0)),
    "shrinking crops": (90, 24, Augment(resize=64, crop_scale=(0.08, 1.0), flip=0.5)),
    "jitter alone": (32, 32, Augment(color_jitter=0.4)),
    "rotation before a resize": (40, 32, Augment(resize=48, rotation=180.0)),
}


def photo(side: int, seed: int) -> Image.Image:
    """Smooth and full of contrast, as photographs are: no two neighbours far apart, some parts black or white."""
    rough = np.random.default_rng(seed).normal(128, 110, (6, 6, 3)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(rough).resize((side, side), Image.Resampling.BICUBIC)


def both_ways(chain: str, count: int = 40):
    """(ours, Pillow's), uint8 [count, size, size, 3], from the same images and the same draws."""
    side, size, augment = CHAINS[chain]
    pairs = [
        (
            train_image(photo(side, seed), size, augment, generator(seed)),
            plain_images.train_image(photo(side, seed), size, augment, generator(seed)),
        )
        for seed in range(count)
    ]
    return [np.stack(images) for images in zip(*pairs)]


@pytest.mark.parametrize("chain", CHAINS)
def test_the_same_draws_give_pillows_images(chain):
    ours, plain = both_ways(chain)
    differences = np.abs(ours.astype(int) - plain).max(axis=-1)
    # A level or two of rounding after five steps; and pixels where the nearest neighbour is a toss-up.
    assert (differences > 2).mean() < 0.004
    assert differences.mean() < 1


@pytest.mark.parametrize("chain", CHAINS)
def test_statistics_are_pillows(chain):
    ours, plain = (images.reshape(-1, 3).astype(np.float64) for images in both_ways(chain))
    assert np.abs(ours.mean(0) - plain.mean(0)).max() < 0.4  # of 255
    assert np.abs(ours.std(0) - plain.std(0)).max() < 0.1
    for level in (5, 25, 50, 75, 95):
        assert np.abs(np.percentile(ours, level, axis=0) - np.percentile(plain, level, axis=0)).max() <= 1
    assert abs((ours == 0).all(1).mean() - (plain == 0).all(1).mean()) < 0.0005  # black corners
