"""Mixed precision in float16, on a GPU: what `train.amp` switches on.

hapi has it for training steps only. Here the network's own forward pass does it, so that evaluation, predictions and
the search for what is not finite compute as training does.
"""

import paddle

from simam_repro.errors import UserError

LEAST_CAPABILITY = 7  # of a GPU; with less, or on a CPU, Paddle would quietly compute in float32


def check_amp(level: str, device: str) -> None:
    """Raises UserError where `level` (none, O1, O2) would not do what it says on `device` ("cpu" or "gpu:N")."""
    if level == "none":
        return
    if device == "cpu":
        raise UserError(f"train.amp: {level} needs a GPU: Paddle has no mixed precision on a CPU; use none")
    major, minor = paddle.device.cuda.get_device_capability(int(device.partition(":")[2]))
    if major < LEAST_CAPABILITY:
        raise UserError(
            f"train.amp: {level} needs compute capability {LEAST_CAPABILITY}.0, {device} has {major}.{minor}; use none"
        )


def use_amp(level: str, network, optimizer) -> None:
    """Make `network` compute in float16 where that is safe, its logits float32; the optimizer follows.

    O1: float32 weights, cast for convolutions and matrix products. O2: float16 weights but for the batch norms', and
    float32 master weights in the optimizer.
    """
    if level == "O2":
        paddle.amp.decorate(network, optimizer, level="O2", dtype="float16", master_weight=True)
    forward = network.forward

    def mixed(images):
        with paddle.amp.auto_cast(level=level, dtype="float16"):
            return forward(images).astype("float32")

    network.forward = mixed


def loss_scaler(state: dict | None):
    """The scaler of the loss, as `scaler_state` has it or at its beginning."""
    scaler = paddle.amp.GradScaler()
    if state:
        scaler.load_state_dict({**state, "scale": [state["scale"]]})
    return scaler


def scaler_state(scaler) -> dict | None:
    """JSON values."""
    if scaler is None:
        return None
    state = scaler.state_dict()
    return {**state, "scale": float(state["scale"][0])}
