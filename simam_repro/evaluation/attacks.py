"""Adversarial images within an L-infinity ball: FGSM (Goodfellow et al., ICLR 2015), PGD (Madry et al., ICLR 2018).

Images here are floats in [0, 1]; the normalisation is a part of the attacked network. What is found is not rounded
to grey levels. Accuracy under an attack bounds the accuracy in its ball from above: a stronger attack may find more.
"""

from contextlib import contextmanager

import paddle
from paddle import nn
from paddle.nn import functional as F

STEPS = 10  # of PGD
STEP_SHARE = 2.5  # a step of PGD is this times eps / STEPS


class PixelSpace(nn.Layer):
    """float32 images [N, 3, S, S] in [0, 1] -> logits of `network`, which wants them as (image - mean) / std."""

    def __init__(self, network: nn.Layer, mean, std):
        super().__init__()
        self.network = network
        self._mean = paddle.to_tensor(mean, dtype="float32").reshape([1, 3, 1, 1])
        self._std = paddle.to_tensor(std, dtype="float32").reshape([1, 3, 1, 1])

    def forward(self, images):
        return self.network((images - self._mean) / self._std)


def input_gradient(network, images, labels):
    """Gradient of the summed cross-entropy with respect to the images, of their shape.

    Summed, so that an image's gradient does not depend on the others of its batch.
    """
    images = images.detach()
    images.stop_gradient = False
    with paddle.enable_grad(), _weights_fixed(network):
        loss = F.cross_entropy(network(images), labels, reduction="sum")
        return paddle.grad(loss, images)[0]


def fgsm(network, images, labels, eps: float):
    """images + eps * sign(gradient), cut to [0, 1].

    Args:
        network: images in [0, 1] -> logits, in eval mode.
        images: float32 tensor [N, 3, S, S] in [0, 1]; labels: int64 [N], the true ones.
        eps: the largest change of a value, in units of [0, 1].
    """
    return (images + eps * input_gradient(network, images, labels).sign()).clip(0, 1)


def pgd(network, images, labels, eps: float, start):
    """STEPS steps of FGSM of STEP_SHARE * eps / STEPS, each followed by the projection to the ball and to [0, 1].

    Args:
        start: tensor like images, uniform in [-1, 1]: where in the ball to begin, in units of eps.
    """
    attacked = (images + eps * start).clip(0, 1)
    for _ in range(STEPS):
        attacked = attacked + STEP_SHARE * eps / STEPS * input_gradient(network, attacked, labels).sign()
        attacked = paddle.minimum(paddle.maximum(attacked, images - eps), images + eps).clip(0, 1)
    return attacked


@contextmanager
def _weights_fixed(network):
    """Their gradients are not wanted, and would take as long again."""
    trainable = [parameter for parameter in network.parameters() if not parameter.stop_gradient]
    for parameter in trainable:
        parameter.stop_gradient = True
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.stop_gradient = False
