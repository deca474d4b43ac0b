"""FGSM and PGD against finite differences and by hand."""

import numpy as np
import paddle
import pytest
from paddle import nn

from simam_repro.config import Model
from simam_repro.evaluation.attacks import PixelSpace, fgsm, input_gradient, pgd
from simam_repro.models import SimAM, build_model


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


@pytest.mark.parametrize("backbone", ["alexnet", "towernet"])
def test_the_networks_give_images_the_same_gradient_with_the_compiled_operators_and_without(backbone):
    networks = [
        build_model(Model(backbone=backbone, attention="simam", fused=fused), 4, 128) for fused in (True, False)
    ]
    networks[1].set_state_dict(networks[0].state_dict())
    images = paddle.to_tensor(np.random.default_rng(0).uniform(-1, 1, (2, 3, 128, 128)).astype(np.float32))
    for network in networks:
        network.eval()
    fused, plain = (input_gradient(network, images, paddle.to_tensor([1, 3])).numpy() for network in networks)
    np.testing.assert_allclose(fused, plain, rtol=0, atol=1e-3 * np.abs(plain).max())
    assert plain.any()
