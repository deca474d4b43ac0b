"""From the `optim` section of a config to a Paddle optimizer with its schedule."""

import paddle

from simam_repro.config import Optim
from simam_repro.optimizers import OPTIMIZERS, SCHEDULES, Span, own_keys


def build_schedule(config: Optim, epochs: int, steps_per_epoch: int):
    """A Paddle scheduler that is stepped once per batch (as hapi does by default).

    With a warm-up of W steps the rate of step k < W is learning_rate * k / W, and the schedule begins at step W.
    """
    span = Span(epochs, steps_per_epoch, round(config.warmup_epochs * steps_per_epoch))
    schedule = SCHEDULES[config.schedule]
    scheduler = schedule(config.learning_rate, span, **_chosen(schedule, config))
    if not span.warmup_steps:
        return scheduler
    return paddle.optimizer.lr.LinearWarmup(scheduler, span.warmup_steps, start_lr=0.0, end_lr=config.learning_rate)


def build_optimizer(config: Optim, parameters, epochs: int, steps_per_epoch: int):
    """The optimizer of a config.

    weight_decay acts on every parameter. Clipping scales all gradients g to g * min(1, clip_norm / ||g||), with the
    norm over all parameters together, before weight_decay is added.
    """
    optimizer = OPTIMIZERS[config.name]
    shared = {
        "learning_rate": build_schedule(config, epochs, steps_per_epoch),
        "parameters": parameters,
        "weight_decay": config.weight_decay,
        "grad_clip": None if config.clip_norm is None else paddle.nn.ClipGradByGlobalNorm(config.clip_norm),
    }
    return optimizer(shared, **_chosen(optimizer, config))


def _chosen(function, config: Optim) -> dict:
    return {key: getattr(config, key) for key in own_keys(function)}
