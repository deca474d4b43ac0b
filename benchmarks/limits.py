"""How near training comes to what the processors can multiply: FLOPs of convolutions and linear layers per second,
beside those of a matrix product of 2048 x 2048 in the same turn.

A training step multiplies three times what a forward pass does: forward, gradients of the inputs and of the weights
(the first layer's input has none). All else (norms, ReLUs, pools, memory) takes time and counts for nothing here.
"""

from training import NETWORKS, OFF, PADDLE, _images_per_s
from workers import spread, turns

MATRIX = 2048
MULTIPLIES = ("Conv2D", "Linear")


def measure(repeats: int) -> dict:
    work = {title: _training_flops(network) for title, network in NETWORKS.items()}
    speeds = {title: [] for title in NETWORKS}
    products = []
    for _, made in turns(repeats, ours=PADDLE):
        products.append(_product_flops(made["ours"]))
        for title, network in NETWORKS.items():
            case = {"what": "train", **network, **OFF}
            speeds[title].append(_images_per_s(made["ours"], case, 2) * work[title] / 1e9)
    return {
        "title": "Training without SimAM beside the matrix product",
        "rows": [
            {
                "case": title,
                "GFLOP of an image": work[title] / 1e9,
                "GFLOP/s": spread(speeds[title]),
                "of the matrix product's": spread([mine / most for mine, most in zip(speeds[title], products)]),
            }
            for title in NETWORKS
        ],
        "matrix_product": spread(products),
    }


def _training_flops(network: dict) -> int:
    """Of one image's part of a training step."""
    from simam_repro.config import build_experiment
    from simam_repro.models import build_model, summarise

    config = {"name": "bench", "model": {"backbone": network["network"], "attention": "none"}}
    rows = summarise(build_model(build_experiment(config).model, 16, network["size"]), network["size"]).rows
    forward = [row.flops for row in rows if row.type in MULTIPLIES]
    return 3 * sum(forward) - forward[0]


def _product_flops(group) -> float:
    steps = 8
    return 2 * MATRIX**3 * steps / group.run(what="product", shape=[MATRIX, MATRIX], steps=steps)["seconds"] / 1e9
