"""Signal propagation at the start: how large activations and gradients are along a network that has learned nothing.

An initialisation such as He's (Delving Deep into Rectifiers, ICCV 2015, section 2.2) keeps the size of activations from
layer to layer. A gate at rest multiplies by less than one at each of its sites, which compounds where no normalisation
follows: a comparison of modules there also compares initialisations.
"""

import json
import math
from collections import defaultdict

import paddle
from paddle import nn
from paddle.nn import functional as F

from simam_repro.config import ARM_KEYS, Experiment
from simam_repro.data import PreparedData, prepare_data
from simam_repro.data.loaders import build_eval_loader
from simam_repro.device import select_device
from simam_repro.evaluation.arms import arm_title
from simam_repro.models import attention_layers, backbones, build_model
from simam_repro.training.environment import describe_environment

SCHEMA = 1
# The last of a site's places shows what the next stage gets.
POSITIONS = ("conv", "norm", "act", "block")
LOGITS = "logits"


def measure_propagation(experiments: list[Experiment], done=lambda: None) -> dict:
    """The content of propagation.json: one batch of eval images through the networks that the experiments begin with.

    Each network is what training with that seed starts from, in training mode (BatchNorm uses the batch's statistics,
    dropout is on), on the first batch of evenly spread eval images, without augmentation.

    Args:
        experiments: of one data set and network; they differ in attention, seed and what else a sweep varies.
        done: called after each.
    Raises:
        UserError: as `prepare_data` has it.
    """
    device = select_device("cpu")
    groups: dict[str, dict[str, dict]] = defaultdict(dict)
    for experiment in experiments:
        data = prepare_data(experiment.data)
        arms = groups[json.dumps(experiment.recipe(without=("seed", *ARM_KEYS)), sort_keys=True)]
        arm = arms.setdefault(experiment.name, {"title": arm_title(experiment), "name": experiment.name, "runs": []})
        arm["runs"].append({"seed": experiment.seed, **measure_start(experiment, data)})
        done()
    first = experiments[0]
    recipes = [json.loads(recipe) for recipe in groups]
    varied = sorted(key for key in recipes[0] if len({json.dumps(recipe.get(key)) for recipe in recipes}) > 1)
    return {
        "schema": SCHEMA,
        "backbone": backbones.load(first.model.backbone).title,
        "data": {"name": data.name, "sha256": data.describe()["sha256"], "stand_in": data.stand_in},
        "image_size": first.data.image_size,
        "images": min(first.data.batch_size, len(data.eval)),
        "chance_loss": math.log(len(data.classes)),
        "environment": describe_environment(device, first.model.model_copy(update={"fused": False}), 1),
        "groups": [
            {"varied": {key: recipe[key] for key in varied}, "arms": list(arms.values())}
            for recipe, arms in zip(recipes, groups.values())
        ],
    }


def measure_start(experiment: Experiment, data: PreparedData) -> dict:
    """Of the network that `experiment` begins with, by Paddle's own operators.

    Returns:
        loss: cross-entropy in nats, without label smoothing. gradient_norm: of all parameters together.
        stages: {site or "logits": of the activations there, behind any attention, their RMS, mean and standard
        deviation over the channels of a channel's mean, and the RMS of the loss's gradient with respect to them}.
        attention: {site: gain, RMS behind the module over RMS before it; weight, the mean of what it multiplies by,
        null where it adds}.
    """
    config = experiment.data
    images, labels = next(iter(build_eval_loader(data, config, data.eval.spread(config.batch_size))))
    with paddle.utils.unique_name.guard():
        paddle.seed(experiment.seed)
        # A compiled layer would take attention and the ReLU behind it in one step, with nothing to see between them.
        model = experiment.model.model_copy(update={"fused": False})
        network = build_model(model, len(data.classes), config.image_size)
    network.train()
    stages: dict[str, dict] = {}
    modules: dict[str, dict] = {}
    for site, layer in _stages(network, experiment.model.backbone).items():
        layer.register_forward_post_hook(_stage_watcher(stages, site))
    for layer in attention_layers(network).values():
        layer.register_forward_post_hook(_module_watcher(modules, layer.site.name))
    network.register_forward_post_hook(_stage_watcher(stages, LOGITS))
    loss = F.cross_entropy(network(images), labels)
    loss.backward()
    squares = [float(weight.grad.square().sum()) for weight in network.parameters() if weight.grad is not None]
    return {"loss": float(loss), "gradient_norm": math.sqrt(sum(squares)), "stages": stages, "attention": modules}


def _stages(network: nn.Layer, backbone: str) -> dict[str, nn.Layer]:
    """{site: the layer whose output leaves it}."""
    layers, found = dict(network.named_sublayers()), {}
    for site, places in backbones.load(backbone).sites(network).items():
        behind = [places[position] for position in POSITIONS if position in places and not places[position].before]
        if behind:
            found[site] = layers[behind[-1].layer]
    return found


def rms(x) -> float:
    return float(x.astype("float32").square().mean().sqrt())


def _stage_watcher(stages: dict, site: str):
    def watch(layer, inputs, output):
        channels = output.mean(axis=[axis for axis in range(output.ndim) if axis != 1])
        over_channels = {"channel_mean": float(channels.mean()), "channel_sd": float(channels.std())}
        stages[site] = {"rms": rms(output), **over_channels, "gradient_rms": None}
        output.register_hook(lambda gradient: stages[site].update(gradient_rms=rms(gradient)))

    return watch


def _module_watcher(modules: dict, site: str):
    def watch(layer, inputs, output):
        weights = getattr(layer, "weights", None)
        with paddle.no_grad():
            weight = float(weights(inputs[0]).mean()) if weights else None
        modules[site] = {"gain": rms(output) / rms(inputs[0]), "weight": weight}

    return watch
