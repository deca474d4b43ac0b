"""Corruptions against independent references."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy import ndimage
from scipy import stats as scipy_stats

from simam_repro.errors import UserError
from simam_repro.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corruption_rng
from simam_repro.evaluation.robustness import ExaminedImages, Scope

SIDE = 128


def natural(seed: int, side: int = SIDE) -> np.ndarray:
    """An image with structure at all scales, as photographs have: uint8 [side, side, 3]."""
    rng = np.random.default_rng(seed)
    layers = [ndimage.gaussian_filter(rng.standard_normal((side, side, 3)), (sigma, sigma, 0)) * sigma
              for sigma in (1, 2, 4, 8, 16)]  # fmt: skip
    image = sum(layers)
    return np.uint8(np.clip(127 + 45 * image / image.std(), 0, 255))


IMAGES = [natural(seed) for seed in range(8)]


def corrupted(name: str, severity: int, images=IMAGES) -> np.ndarray:
    return np.stack([CORRUPTIONS[name](image, severity, corruption_rng(name, severity, f"image {i}"))
                     for i, image in enumerate(images)])  # fmt: skip


def parameter(name: str, severity: int):
    return CORRUPTIONS[name].parameters[severity - 1]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_corruption(name):
    distances = []
    before = np.stack(IMAGES)
    for severity in SEVERITIES:
        images = corrupted(name, severity)
        assert images.dtype == np.uint8 and images.shape == before.shape
        np.testing.assert_array_equal(images, corrupted(name, severity))
        distances.append(np.mean((images.astype(float) - before) ** 2))
    assert 0 < distances[0] and distances == sorted(distances), distances
    assert distances[-1] > 1.5 * distances[0]
    np.testing.assert_array_equal(before, np.stack(IMAGES))  # the caller's images are untouched


@pytest.mark.parametrize("name", ["gaussian_noise", "motion_blur", "fog", "rotation", "occlusion"])
def test_draws_differ_between_images_and_follow_from_the_id(name):
    same = [IMAGES[0]] * 8
    images = corrupted(name, 3, same)
    assert len({image.tobytes() for image in images}) > 1
    np.testing.assert_array_equal(images[5], CORRUPTIONS[name](IMAGES[0], 3, corruption_rng(name, 3, "image 5")))


def test_examined_images_are_drawn_by_their_id():
    class Clean:
        split = SimpleNamespace(ids=("a", "b"))

        def __getitem__(self, key):
            return IMAGES[key[1]]

    expected = CORRUPTIONS["fog"](IMAGES[1], 3, corruption_rng("fog", 3, "b"))
    np.testing.assert_array_equal(ExaminedImages(Clean(), None, "fog", 3)[7, 1], expected)
    np.testing.assert_array_equal(ExaminedImages(Clean(), None)[7, 1], IMAGES[1])


@pytest.mark.parametrize("severity", [0, 6, -1, 2.5])
def test_severity_is_refused(severity):
    with pytest.raises(UserError, match=f"severity {severity}: it is one of 1, 2, 3, 4, 5"):
        CORRUPTIONS["fog"](IMAGES[0], severity, np.random.default_rng(0))
    with pytest.raises(UserError, match=f"severity {severity}"):
        Scope(severities=(1, severity))


def test_names_are_refused():
    with pytest.raises(UserError, match="no corruption 'fogg'; did you mean fog"):
        Scope(corruptions=("jpeg", "fogg"))
    with pytest.raises(UserError, match="no attack 'cw'; there are fgsm, pgd"):
        Scope(attacks=("cw",))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noises_have_the_stated_strength(severity):
    grey = [np.full((SIDE, SIDE, 3), 128, np.uint8)] * 8
    level = 128 / 255
    # Of many values around a medium grey; what is cut at 0 and 1 is left out of the comparison by quantiles.
    noise = (corrupted("gaussian_noise", severity, grey) / 255 - level).ravel()
    expected = parameter("gaussian_noise", severity)
    assert np.quantile(noise, 0.75) - np.quantile(noise, 0.25) == pytest.approx(1.349 * expected, rel=0.02)

    photons = parameter("shot_noise", severity)
    shot = np.rint(corrupted("shot_noise", severity, grey) / 255 * photons)
    for count in range(photons):  # all of the distribution below what is cut
        assert np.mean(shot == count) == pytest.approx(scipy_stats.poisson.pmf(count, level * photons), abs=0.005)

    impulse = corrupted("impulse_noise", severity, grey)
    for extreme in (0, 255):
        assert np.mean(impulse == extreme) == pytest.approx(parameter("impulse_noise", severity) / 2, abs=0.004)
    assert np.isin(impulse, (0, 128, 255)).all()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_and_contrast_are_the_formulas(severity):
    for image, bright, flat in zip(IMAGES, corrupted("brightness", severity), corrupted("contrast", severity)):
        hsv = rgb_to_hsv(image / 255)
        hsv[..., 2] = np.clip(hsv[..., 2] + parameter("brightness", severity), 0, 1)
        np.testing.assert_allclose(bright, 255 * hsv_to_rgb(hsv), atol=0.51)
        mean = image.reshape(-1, 3).mean(axis=0)
        np.testing.assert_allclose(flat, (image - mean) * parameter("contrast", severity) + mean, atol=0.51)
    black = CORRUPTIONS["brightness"](np.zeros((8, 8, 3), np.uint8), severity, None)
    assert (black == round(255 * parameter("brightness", severity))).all()


@pytest.mark.parametrize("side", [224, 336])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_blurs_keep_the_light_and_have_the_stated_width(severity, side):
    centre = side // 2
    square = np.zeros((side, side, 3), np.uint8)
    square[centre - 3 : centre + 4, centre - 3 : centre + 4] = 255
    own = (7**2 - 1) / 12  # variance of the square itself, a direction
    rows = np.arange(side) - centre
    for name, variance in (
        ("gaussian_blur", parameter("gaussian_blur", severity) ** 2),
        ("defocus_blur", parameter("defocus_blur", severity)[0] ** 2 / 4 + parameter("defocus_blur", severity)[1] ** 2),
    ):
        profile = CORRUPTIONS[name](square, severity, None)[..., 0].sum(axis=1) / (49 * 255)
        assert profile.sum() == pytest.approx(1, abs=0.03)
        assert (profile * rows**2).sum() == pytest.approx(variance * (side / 224) ** 2 + own, rel=0.1), name


@pytest.mark.parametrize("severity", SEVERITIES)
def test_motion_blur_is_a_line(severity):
    square = np.zeros((224, 224, 3), np.uint8)
    square[110:115, 110:115] = 255
    blurred = CORRUPTIONS["motion_blur"](square, severity, corruption_rng("motion_blur", severity, "line"))[..., 0]
    assert blurred.sum() == pytest.approx(square[..., 0].sum(), rel=0.03)
    y, x = np.nonzero(blurred)
    variances = np.linalg.eigvalsh(np.cov(x, y, aweights=blurred[y, x]))
    radius, sigma = parameter("motion_blur", severity)
    own = (5**2 - 1) / 12
    assert variances[0] == pytest.approx(own, abs=0.5)
    along = scipy_stats.truncnorm(0, 2 * radius / sigma, scale=sigma).var()
    assert variances[1] == pytest.approx(own + along, rel=0.1)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_pixelate_occlusion_rotation(severity):
    for image, coded in zip(IMAGES, corrupted("jpeg", severity)):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=parameter("jpeg", severity))
        np.testing.assert_array_equal(coded, np.asarray(Image.open(buffer)))

    blocks = int(SIDE * parameter("pixelate", severity))
    for image in corrupted("pixelate", severity):
        changes = (np.diff(image.astype(int), axis=0) != 0).any(axis=(1, 2)).sum()
        assert changes + 1 == blocks
    if SIDE % blocks == 0:  # then a block is the mean of whole pixels
        means = np.reshape(IMAGES, (8, blocks, SIDE // blocks, blocks, SIDE // blocks, 3)).mean(axis=(2, 4))
        cells = corrupted("pixelate", severity)[:, :: SIDE // blocks, :: SIDE // blocks]
        np.testing.assert_allclose(cells, means, atol=1.01)  # Pillow rounds after each direction

    white = [np.full((SIDE, SIDE, 3), 255, np.uint8)] * 8
    for image in corrupted("occlusion", severity, white):
        assert np.mean(image == 127) == pytest.approx(parameter("occlusion", severity), abs=1 / SIDE)
        assert np.isin(image, (127, 255)).all()

    degrees = parameter("rotation", severity)
    for image, turned in zip(IMAGES, corrupted("rotation", severity)):
        both = [ndimage.rotate(image, sign * degrees, (0, 1), reshape=False, order=1) for sign in (-1, 1)]
        inside = np.hypot(*np.mgrid[-63.5:64, -63.5:64]) < 62
        assert min(np.abs(turned[inside].astype(int) - other[inside]).mean() for other in both) < 1.5


def test_fog_brightens_towards_the_brightest_and_keeps_its_range():
    for severity in SEVERITIES:
        amount = parameter("fog", severity)
        for image, foggy in zip(IMAGES, corrupted("fog", severity)):
            brightest = float(image.max())
            assert foggy.max() <= brightest
            # The cloud runs from 0 to 1, so each pixel lies between these.
            low, share = image * (brightest / (brightest + 255 * amount)), brightest / 255 / (brightest / 255 + amount)
            assert (foggy >= low - 0.51).all() and (foggy <= low + 255 * amount * share + 0.51).all()
