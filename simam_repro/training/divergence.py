"""Where a loss that is not finite comes from."""

import math

import numpy as np
import paddle

from simam_repro.errors import RunError
from simam_repro.models import named_units

REMEDY = "The last checkpoint is kept; a lower optim.learning_rate usually cures it"


def stop_when_not_finite(network, objective, recorder) -> None:
    """Make a loss that is not finite raise a RunError that names the first layer to blame.

    Logits that are not finite count too: Paddle's cross-entropy of them is log(classes), which looks like a loss.
    It is raised before the backward pass, so the weights are still those that gave the loss.
    """
    seen = []
    network.register_forward_pre_hook(lambda layer, inputs: seen.__setitem__(slice(None), inputs))

    def check(layer, inputs, loss):
        value, logits = float(loss), inputs[0]
        if math.isfinite(value) and _finite(logits):
            return
        so_far, of = recorder.so_far, "" if _finite(logits) else " of logits that are not finite"
        what, step = ("training", so_far.steps + 1) if network.training else ("eval", so_far.steps)
        recorder.seed_step()  # the same dropout again
        raise RunError(
            f"the {what} loss is {value}{of} at epoch {recorder.epoch}, step {step} "
            f"(lr {so_far.learning_rate:g}): {find_culprit(network, seen)}. {REMEDY}"
        )

    objective.register_forward_post_hook(check)


def broken_weights(network) -> str | None:
    """Says in words which weight (or running statistic) is the first that is not finite; None when there is none."""
    return _first_broken(network.state_dict().items())


def find_culprit(network, inputs) -> str:
    """Run `network` on `inputs` again; says in words which input, weight or layer's output is the first not finite."""
    for tensor in inputs:
        if not _finite(tensor):
            return f"the batch itself holds {_describe(tensor)}"
    # Not the running statistics, which are parameters to Paddle: the pass that failed has changed them already.
    trainable = [(name, tensor) for name, tensor in network.named_parameters() if not tensor.stop_gradient]
    if broken := _first_broken(trainable):
        return broken
    found = []

    def look(name):
        def hook(layer, layer_inputs, output):
            # The attention behind a layer runs within that layer's call, and comes first; it may not be to blame.
            if not found and not _finite(output) and _finite(layer_inputs[0]):
                found.append(
                    f"the output of layer {name} ({type(layer).__name__}) holds {_describe(output)}, "
                    f"its input {_describe(layer_inputs[0])}"
                )

        return hook

    leaves = named_units(network)
    hooks = [layer.register_forward_post_hook(look(name)) for name, layer in leaves]
    paddle.jit.enable_to_static(False)  # a traced program would not call the layers
    try:
        with paddle.no_grad():
            logits = network(*inputs)
    finally:
        paddle.jit.enable_to_static(True)
        for hook in hooks:
            hook.remove()
    return found[0] if found else f"every layer's output is finite, the logits hold {_describe(logits)}"


def _first_broken(named) -> str | None:
    for name, tensor in named:
        if not _finite(tensor):
            return f"the weights {name} hold {_describe(tensor)}"
    return None


def _finite(tensor) -> bool:
    return bool(paddle.isfinite(tensor).all())


def _describe(tensor) -> str:
    """ "values from -3.1 to 2.5, mean 0.02, 0.4 % not finite"."""
    values = tensor.astype("float32").numpy()
    finite = values[np.isfinite(values)]
    share = 1 - finite.size / max(values.size, 1)
    if not finite.size:
        return "no finite value"
    text = f"values from {finite.min():.3g} to {finite.max():.3g}, mean {finite.mean(dtype=np.float64):.3g}"
    return f"{text}, {share:.2%} not finite" if share else text
