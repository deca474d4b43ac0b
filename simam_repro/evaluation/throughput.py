"""How many images a second a network classifies."""

import time

import numpy as np
import paddle

WARM_UP = 2
LEAST_REPEATS, MOST_REPEATS = 5, 50


def network_throughput(network, images, budget_s: float = 3.0) -> dict:
    """Images per second of the network's forward pass alone, on a batch that is on its device already.

    After a warm-up the pass is repeated for about `budget_s` seconds, at least 5 and at most 50 times,
    each repeat timed to its end on the device.

    Args:
        network: a layer in eval mode.
        images: tensor [N, 3, S, S].
    Returns:
        {"images_per_s": median, "quartiles": [25 %, 75 %], "batch_size", "repeats"}.
    """
    seconds: list[float] = []
    with paddle.no_grad():
        for _ in range(WARM_UP):
            _timed(network, images)
        while len(seconds) < LEAST_REPEATS or (sum(seconds) < budget_s and len(seconds) < MOST_REPEATS):
            seconds.append(_timed(network, images))
    low, median, high = np.percentile(len(images) / np.array(seconds), [25, 50, 75])
    return {
        "images_per_s": float(median),
        "quartiles": [float(low), float(high)],
        "batch_size": len(images),
        "repeats": len(seconds),
    }


def _timed(network, images) -> float:
    _wait_for(images)
    begin = time.perf_counter()
    network(images)
    _wait_for(images)
    return time.perf_counter() - begin


def _wait_for(images) -> None:
    """A GPU works on after the call has returned."""
    if images.place.is_gpu_place():
        paddle.device.cuda.synchronize()
