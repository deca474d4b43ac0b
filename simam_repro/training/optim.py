"""Optimizers and learning-rate schedules."""

import paddle

from simam_repro.config import Optim


def build_schedule(config: Optim, epochs: int, steps_per_epoch: int):
    """A Paddle scheduler that is stepped once per batch (as hapi does by default).

    cosine: lr/2 * (1 + cos(pi * step / T_max)) with T_max all steps of the run, so it ends at 0.
    cosine_swinging: the same with T_max = epochs, so it swings with a period of 2 * epochs steps
    (the original Caltech code meant to step it once an epoch).
    """
    if config.schedule == "constant":
        return paddle.optimizer.lr.LambdaDecay(config.learning_rate, lambda step: 1.0)
    t_max = epochs * steps_per_epoch if config.schedule == "cosine" else epochs
    return paddle.optimizer.lr.CosineAnnealingDecay(config.learning_rate, T_max=t_max)


def _momentum(config: Optim, **shared):
    return paddle.optimizer.Momentum(momentum=config.momentum, **shared)


def _sgd(config: Optim, **shared):
    return paddle.optimizer.SGD(**shared)


def _adam(config: Optim, **shared):
    return paddle.optimizer.Adam(**shared)


OPTIMIZERS = {"momentum": _momentum, "sgd": _sgd, "adam": _adam}


def build_optimizer(config: Optim, parameters, epochs: int, steps_per_epoch: int):
    """The optimizer of a config. weight_decay is an L2 penalty in the gradient, on every parameter."""
    return OPTIMIZERS[config.name](
        config,
        learning_rate=build_schedule(config, epochs, steps_per_epoch),
        parameters=parameters,
        weight_decay=paddle.regularizer.L2Decay(config.weight_decay) if config.weight_decay else None,
    )
