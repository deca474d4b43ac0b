"""Corruptions and attacks against independent references, corruption errors by hand, and the command on a pair."""

import io
import json
import shutil
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from commands import assert_refused, script
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from paddle import nn
from PIL import Image
from scipy import ndimage
from scipy import stats as scipy_stats

from simam_repro.config import build_experiment
from simam_repro.errors import UserError
from simam_repro.evaluation import load_trained
from simam_repro.evaluation.attacks import PixelSpace, fgsm, input_gradient, pgd
from simam_repro.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corruption_rng
from simam_repro.evaluation.robustness import EPS, ExaminedImages, Measurement, Scope, find_runs
from simam_repro.evaluation.robustness_pairs import compare_robustness
from simam_repro.models import SimAM
from simam_repro.reporting import robustness as reporting
from simam_repro.runs import RunFolder
from simam_repro.training import fit

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


class Tiny(nn.Layer):
    """Images [N, 3, 8, 8] -> logits [N, 4], with SimAM as in the networks."""

    def __init__(self, attention: nn.Layer):
        super().__init__()
        self.conv, self.attention = nn.Conv2D(3, 6, 3), attention
        self.head = nn.Linear(6, 4)

    def forward(self, images):
        return self.head(nn.functional.relu(self.attention(self.conv(images))).square().mean(axis=[2, 3]))


def tiny(attention, dtype="float64"):
    paddle.seed(2)
    network = Tiny(attention).to(dtype=dtype)
    network.eval()
    return network


@pytest.mark.parametrize("attention", [SimAM(), SimAM(fused=False), nn.Identity()], ids=["fused", "plain", "none"])
def test_fgsm_follows_the_gradient_of_finite_differences(attention):
    network = tiny(attention)
    rng = np.random.default_rng(1)
    images, labels = rng.uniform(0.2, 0.8, (2, 3, 8, 8)), paddle.to_tensor([1, 3])

    def loss(pixels):
        return nn.functional.cross_entropy(network(paddle.to_tensor(pixels)), labels, reduction="sum").item()

    step, expected = 1e-5, np.zeros_like(images)
    for position in np.ndindex(*images.shape):
        change = np.zeros_like(images)
        change[position] = step
        expected[position] = (loss(images + change) - loss(images - change)) / (2 * step)
    with paddle.no_grad():  # as a caller who predicts has it
        found = input_gradient(network, paddle.to_tensor(images), labels).numpy()
        attacked = fgsm(network, paddle.to_tensor(images), labels, 0.01).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(attacked - images, 0.01 * np.sign(expected), atol=1e-12)
    assert all(not weights.stop_gradient and weights.grad is None for weights in network.parameters())


def test_pixel_space_normalises():
    network = nn.Flatten()
    images = np.random.default_rng(0).random((2, 3, 4, 4), np.float32)
    mean, std = np.array([0.1, 0.2, 0.3]), np.array([0.5, 1, 2])
    found = PixelSpace(network, tuple(mean), tuple(std))(paddle.to_tensor(images)).numpy()
    expected = (images - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(found, expected.reshape(2, -1), atol=1e-6)


@pytest.fixture(scope="module")
def learned():
    """A network that tells which of four quarters of an image is bright, with the images: (network, images, labels)."""
    paddle.seed(4)
    rng = np.random.default_rng(4)
    labels = np.arange(64) % 4
    images = rng.uniform(0, 1, (64, 3, 8, 8)).astype(np.float32)
    for image, label in zip(images, labels):
        row, column = 4 * (label // 2), 4 * (label % 2)
        image[:, row : row + 4, column : column + 4] = image[:, row : row + 4, column : column + 4] * 0.7 + 0.3
    network = nn.Sequential(
        nn.Conv2D(3, 16, 3, padding=1), SimAM(), nn.ReLU(), nn.AvgPool2D(2), nn.Flatten(), nn.Linear(256, 4)
    )
    optimizer = paddle.optimizer.Adam(0.01, parameters=network.parameters())
    images, labels = paddle.to_tensor(images), paddle.to_tensor(labels)
    for _ in range(60):
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
        optimizer.clear_grad()
    network.eval()
    return network, images, labels


def accuracy(network, images, labels) -> float:
    return float((network(images).argmax(axis=1) == labels).astype("float32").mean())


@pytest.mark.parametrize("eps", [0.05, 0.1, 0.2])
def test_attacks_stay_in_the_ball_and_pgd_is_the_stronger(learned, eps):
    network, images, labels = learned
    start = paddle.to_tensor(np.random.default_rng(0).uniform(-1, 1, images.shape).astype(np.float32))
    found = {"fgsm": fgsm(network, images, labels, eps), "pgd": pgd(network, images, labels, eps, start)}
    for attacked in found.values():
        values = attacked.numpy()
        assert np.abs(values - images.numpy()).max() <= eps + 1e-6
        assert values.min() >= 0 and values.max() <= 1
    scores = {name: accuracy(network, attacked, labels) for name, attacked in found.items()}
    assert accuracy(network, images, labels) == 1 > scores["fgsm"] >= scores["pgd"]
    # Loss is what both climb.
    losses = [nn.functional.cross_entropy(network(image), labels).item() for image in (images, *found.values())]
    assert losses == sorted(losses)


def test_pgd_begins_where_it_is_told_and_steps_as_stated(monkeypatch):
    monkeypatch.setattr("simam_repro.evaluation.attacks.STEP_SHARE", 0.5)  # too little to reach the ball's edge

    class Flat(nn.Layer):
        """A gradient of the sign of `direction` everywhere, whatever the image."""

        def forward(self, images):
            total = images.sum(axis=[1, 2, 3])
            return paddle.stack([total, -total], axis=1) * 1e-3

    images, start = paddle.full([1, 3, 2, 2], 0.5), paddle.full([1, 3, 2, 2], -0.8)
    eps = 0.1
    (value,) = set(pgd(Flat(), images, paddle.to_tensor([1]), eps, start).numpy().ravel())
    assert value == pytest.approx(0.5 + (-0.8 + 0.5) * eps)
    (other,) = set(pgd(Flat(), images, paddle.to_tensor([0]), eps, start).numpy().ravel())
    assert other == pytest.approx(0.5 - eps)


def stated(run: RunFolder, clean, corruptions, attacks=None, images=100):
    """A measurement whose file says these accuracies, {name: one for each severity}."""
    scope = Scope(corruptions=tuple(corruptions), severities=(1, 2), attacks=tuple(attacks or ()), images=images)
    measurement = Measurement(run, scope)
    measurement.content["clean"] = clean
    measurement.content["corruptions"] = {
        name: {str(level): value for level, value in zip((1, 2), values)} for name, values in corruptions.items()
    }
    measurement.content["attacks"] = {
        name: {str(eps): value for eps, value in zip(EPS, values)} for name, values in (attacks or {}).items()
    }
    return measurement


@pytest.fixture(scope="module")
def pair(tmp_path_factory, caltech_archive):
    """runs/ with `tiny` and `tiny_simam`, one seed, on a miniature of Caltech101-16."""
    root = tmp_path_factory.mktemp("robustness")
    (root / "data" / "archives").mkdir(parents=True)
    shutil.copy(caltech_archive, root / "data" / "archives")
    for name, attention in (("tiny", "none"), ("tiny_simam", "simam")):
        values = {
            "name": name,
            "data": {
                "root": str(root / "data"), "allow_miniature": True, "image_size": 128, "batch_size": 4,
                "train_limit": 4, "eval_limit": 9,
            },
            "model": {"attention": attention},
            "train": {"epochs": 1, "device": "cpu"},
        }  # fmt: skip
        fit(build_experiment(values), root / "runs" / name / "seed0")
    return root / "runs"


@pytest.fixture
def runs(pair, tmp_path):
    return shutil.copytree(pair, tmp_path / "runs")


def reseeded(run, seed: int) -> RunFolder:
    """A copy of a run that says it had another seed."""
    copy = RunFolder(shutil.copytree(run, run.with_name(f"seed{seed}")))
    copy.config.write_text(copy.config.read_text().replace("seed: 0", f"seed: {seed}"))
    copy.result.write_text(json.dumps({**copy.read_result(), "seed": seed}))
    return copy


@pytest.fixture
def two_seeds(runs):
    """(off 0, off 1), (on 0, on 1)."""
    return [(RunFolder(runs / name / "seed0"), reseeded(runs / name / "seed0", 1)) for name in ("tiny", "tiny_simam")]


@pytest.fixture
def by_hand(two_seeds):
    """The summary of accuracies of round numbers, two seeds and two corruptions."""
    (off0, off1), (on0, on1) = two_seeds
    attack = {"fgsm": [0.5, 0.4, 0.3, 0.2, 0.1]}
    better = {"fgsm": [0.6, 0.4, 0.3, 0.2, 0.0]}
    measurements = [
        stated(on1, 1.0, {"fog": (0.8, 0.4), "jpeg": (0.7, 0.5)}, better),
        stated(off0, 0.8, {"fog": (0.7, 0.5), "jpeg": (0.6, 0.4)}, attack),
        stated(on0, 0.8, {"fog": (0.6, 0.6), "jpeg": (0.8, 0.6)}, attack),
        stated(off1, 0.9, {"fog": (0.6, 0.4), "jpeg": (0.8, 0.4)}, attack),
    ]
    return compare_robustness(measurements, measurements[0].scope)


def test_corruption_errors_by_hand(by_hand):
    (comparison,) = by_hand["comparisons"]
    assert (comparison["off"], comparison["on"], comparison["seeds"]) == ("tiny", "tiny_simam", [0, 1])
    fog, jpeg = comparison["corruptions"]["fog"], comparison["corruptions"]["jpeg"]
    # Errors of fog: seed 0 0.3 + 0.5 off, 0.4 + 0.4 on; seed 1 0.4 + 0.6 off, 0.2 + 0.6 on.
    assert fog["ce"]["values"] == pytest.approx([0.8 / 0.8, 0.8 / 1.0])
    assert jpeg["ce"]["values"] == pytest.approx([0.6 / 1.0, 0.8 / 0.8])
    assert comparison["mce"]["values"] == pytest.approx([0.8, 0.9])
    # Beyond the clean error: fog, seed 0 0.1 + 0.3 off, 0.2 + 0.2 on; seed 1 0.3 + 0.5 off, 0.2 + 0.6 on.
    assert fog["relative_ce"]["values"] == pytest.approx([1.0, 0.8 / 0.8])
    assert jpeg["relative_ce"]["values"] == pytest.approx([0.2 / 0.6, 0.8 / 0.6])
    assert comparison["relative_mce"]["values"] == pytest.approx([(1 + 1 / 3) / 2, (1 + 4 / 3) / 2])
    np.testing.assert_allclose(fog["by_severity"]["off"], [0.65, 0.45])
    np.testing.assert_allclose(fog["by_severity_and_seed"]["on"], [[0.6, 0.6], [0.8, 0.4]])


def test_differences_are_paired_by_seed(by_hand):
    (comparison,) = by_hand["comparisons"]
    difference = comparison["mean_corruption"]["difference"]
    assert difference["values"] == pytest.approx([0.65 - 0.55, 0.6 - 0.55])
    interval = scipy_stats.ttest_1samp(difference["values"], 0).confidence_interval(0.95)
    assert difference["t_interval"] == pytest.approx(list(interval))
    assert difference["sd"] == pytest.approx(np.std([0.1, 0.05], ddof=1))
    assert comparison["clean"]["difference"]["values"] == pytest.approx([0, 0.1])
    fgsm_numbers = comparison["attacks"]["fgsm"]
    assert [one["mean"] for one in fgsm_numbers["difference"]] == pytest.approx([0.05, 0, 0, 0, -0.05])
    assert fgsm_numbers["eps"] == pytest.approx([0.5 / 255, 1 / 255, 2 / 255, 4 / 255, 8 / 255])
    assert fgsm_numbers["off"] == [[0.5, 0.4, 0.3, 0.2, 0.1]] * 2
    # 7.5 points with an interval of -24 to +39.
    assert "no difference was measured" in comparison["sentence"] and "stand-in" in comparison["sentence"]
    json.dumps(by_hand, allow_nan=False)


def test_a_sentence_claims_what_the_interval_allows(two_seeds):
    (off0, off1), (on0, on1) = two_seeds
    for fog, word in (((0.3, 0.302), "higher"), ((0.2, 0.198), "lower"), ((0.3, 0.1), "no difference")):
        measurements = [stated(run, 0.9, {"fog": (value, value)})
                        for run, value in ((off0, 0.25), (off1, 0.25), (on0, fog[0]), (on1, fog[1]))]  # fmt: skip
        (comparison,) = compare_robustness(measurements, measurements[0].scope)["comparisons"]
        assert word in comparison["sentence"]
        (alone,) = compare_robustness(measurements[::2], measurements[0].scope)["comparisons"]
        assert alone["n"] == 1 and alone["mean_corruption"]["difference"]["t_interval"] is None
        assert "nothing follows for other seeds" in alone["sentence"] and word not in alone["sentence"]


def test_nothing_is_relative_to_no_error(two_seeds):
    (off, _), (on, _) = two_seeds
    measurements = [stated(off, 1.0, {"fog": (1.0, 1.0)}), stated(on, 1.0, {"fog": (0.5, 1.0)})]
    (comparison,) = compare_robustness(measurements, measurements[0].scope)["comparisons"]
    assert comparison["mce"]["mean"] is None and comparison["relative_mce"]["values"] == [None]
    json.dumps(comparison, allow_nan=False)


def test_what_is_no_pair(two_seeds):
    (off0, off1), (on0, on1) = two_seeds
    numbers = {"fog": (0.5, 0.5)}
    left = compare_robustness([stated(off0, 0.5, numbers), stated(on1, 0.5, numbers)], Scope())
    assert left["comparisons"] == [] and left["unpaired"] == ["tiny seed 0", "tiny_simam seed 1"]
    with pytest.raises(UserError, match="the same half"):
        twin = RunFolder(shutil.copytree(off0.path, off0.path.with_name("again")))
        compare_robustness([stated(run, 0.5, numbers) for run in (off0, twin, on0)], Scope())
    with pytest.raises(UserError, match=r"different data.*\(3 images\).*\(9 images\)"):
        compare_robustness([stated(off0, 0.5, numbers), stated(on0, 0.5, numbers, images=3)], Scope())


def test_table_and_figure(by_hand, tmp_path, monkeypatch):
    table = reporting.robustness_table(by_hand)
    assert max(map(len, table.splitlines())) <= 100
    for words in ("n = 2 pairs (seed 0, 1)", "9 of 9 eval images of caltech101_16", "1 epochs", "final epoch",
                  "paddle", "FGSM 0.5/255", "thread", "Stand-in data", "not corrected", "mCE"):  # fmt: skip
        assert words in table
    assert "not compared: odd seed 3." in reporting.robustness_table({**by_hand, "unpaired": ["odd seed 3"]})
    drawn = []
    monkeypatch.setattr(reporting, "save_figure", lambda figure, path: drawn.append(figure))
    reporting.plot_robustness(by_hand, tmp_path / "unused.png")
    (figure,) = drawn
    assert "stand-in" in figure.get_suptitle()
    titles = [panel.get_title() for panel in figure.axes]
    assert titles[:4] == ["fog", "jpeg", "mean of corruptions", "FGSM"]
    lines = [line for line in figure.axes[0].get_lines() if line.get_linewidth() > 1]
    assert [line.get_linestyle() for line in lines] == ["--", "-"]
    np.testing.assert_allclose(lines[1].get_xydata(), [[0, 0.9], [1, 0.7], [2, 0.5]])


SMALL = ("--corruptions", "fog,occlusion", "--severities", "1,5", "--attacks", "fgsm", "--images", "3")


def test_command_on_a_pair_and_again(runs):
    done = script("robustness", runs, *SMALL)
    assert done.returncode == 0, done.stderr
    summary = json.loads((runs / "robustness.json").read_text())
    (comparison,) = summary["comparisons"]
    assert summary["images"] == 3 and summary["data"]["stand_in"] and summary["checkpoint"] == "last"
    assert set(comparison["corruptions"]) == {"fog", "occlusion"} and list(comparison["attacks"]) == ["fgsm"]
    assert comparison["sentence"] in " ".join(done.stdout.split()) and "stand-in" in done.stdout
    for name in ("robustness.png", "corruptions.png"):
        with Image.open(runs / name) as figure:
            assert min(figure.size) > 300
    files = [runs / name / "seed0" / "robustness.json" for name in ("tiny", "tiny_simam")]
    # Nothing is missing, so nothing is measured.
    files[0].write_text(json.dumps({**json.loads(files[0].read_text()), "clean": 0.125}))
    before = [file.stat().st_mtime_ns for file in files]
    again = script("robustness", runs, *SMALL)
    assert again.returncode == 0 and "clean 12.50%" in again.stdout
    assert [file.stat().st_mtime_ns for file in files] == before


def test_more_is_added_and_other_settings_begin_anew(runs):
    run = RunFolder(runs / "tiny_simam" / "seed0")

    def measured(anew=False, **scope):
        measurement = Measurement(
            run, Scope(**{"corruptions": ("fog",), "severities": (1,), "attacks": (), **scope}), anew
        )
        passes = []
        todo = measurement.missing
        measurement.measure((), "cpu", passes.append)
        assert sum(passes) == len(todo) * measurement.content["images"]
        return todo, json.loads(measurement.path.read_text())

    todo, first = measured()
    assert todo == [("clean",), ("corruptions", "fog", 1)]
    assert first["clean"] == pytest.approx(run.read_result()["final"]["eval_acc"])
    result = run.read_result()
    assert result["versions"]["paddle"] == paddle.__version__ and "thread" in result["hardware"]
    assert first["trained_on"] == {key: result[key] for key in ("hardware", "versions")}
    assert first["images"] == 9 and first["checkpoint"] == "last" and first["measured_on"][0]["versions"]["paddle"]
    todo, second = measured(severities=(1, 4))
    assert todo == [("corruptions", "fog", 4)] and second["corruptions"]["fog"]["1"] == first["corruptions"]["fog"]["1"]
    assert measured(severities=(1, 4))[0] == []
    assert len(measured(images=5)[0]) == 2
    assert measured(images=5, anew=True)[0] == [("clean",), ("corruptions", "fog", 1)]
    run.path.joinpath("robustness.json").write_text("{damaged")
    todo, best = measured(weights="best")
    assert len(todo) == 2 and best["chosen_on"] == "eval" and (run.path / "robustness_best.json").is_file()
    assert len(measured()[0]) == 2
    # Training anew in the folder would not be stopped by them.
    assert run.foreign_files() == []


def test_batches_do_not_matter(runs, monkeypatch):
    monkeypatch.setattr("simam_repro.evaluation.robustness.EPS", (2,))

    def content(batch_size):
        run = RunFolder(runs / "tiny_simam" / "seed0")
        run.config.write_text(run.config.read_text().replace("batch_size: 4", f"batch_size: {batch_size}"))
        measurement = Measurement(run, Scope(("shot_noise",), (2,), ("pgd",), images=4), anew=True)
        measurement.measure((), "cpu")
        return {key: measurement.content[key] for key in ("clean", "corruptions", "attacks")}

    assert content(4) == content(3)


def test_find_runs(runs):
    both = [runs / "tiny" / "seed0", runs / "tiny_simam" / "seed0"]
    found, incomplete = find_runs([runs, both[0]])
    assert [run.path for run in found] == both and incomplete == []
    (both[0] / "result.json").unlink()
    found, incomplete = find_runs([runs])
    assert [run.path for run in found] == both[1:] and incomplete == both[:1]
    with pytest.raises(UserError, match="no result.json"):
        find_runs([both[0]])


def test_command_refuses(runs, tmp_path):
    run = RunFolder(runs / "tiny" / "seed0")
    assert_refused(script("robustness", tmp_path / "nothing"), "nothing is neither a run folder nor")
    assert_refused(script("robustness", run.path, "--corruptions", "fog,sleet"), "no corruption 'sleet'", "occlusion")
    weights = run.last / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\0")
    assert_refused(script("robustness", run.path, *SMALL), "last is damaged", "weights.safetensors")
    weights.unlink()
    with pytest.raises(UserError, match="no whole checkpoint.*weights.safetensors"):
        Measurement(run, Scope())


def test_a_run_without_its_half_says_so(runs):
    run = runs / "tiny" / "seed0"
    done = script("robustness", run, "--corruptions", "none", "--attacks", "none", "--images", "2")
    assert done.returncode == 0, done.stderr
    assert "no pair among the runs" in done.stdout and not (run / "robustness.png").exists()
    assert load_trained(run).run.complete
