"""Optimizers and learning-rate schedules."""

import paddle

from simam_repro.config import Optim


def build_schedule(config: Optim, total_steps: int):
    """A Paddle scheduler that is stepped once per batch (as hapi does by default).

    cosine: lr/2 * (1 + cos(pi * step / total_steps)), so 0 after the last step of the run.
    """
    if config.schedule == "cosine":
        return paddle.optimizer.lr.CosineAnnealingDecay(config.learning_rate, T_max=total_steps)
    return paddle.optimizer.lr.LambdaDecay(config.learning_rate, lambda step: 1.0)


def _momentum(config: Optim, **shared):
    return paddle.optimizer.Momentum(momentum=config.momentum, **shared)


def _sgd(config: Optim, **shared):
    return paddle.optimizer.SGD(**shared)


def _adam(config: Optim, **shared):
    return paddle.optimizer.Adam(**shared)


OPTIMIZERS = {"momentum": _momentum, "sgd": _sgd, "adam": _adam}


def build_optimizer(config: Optim, parameters, total_steps: int):
    """The optimizer of a config. weight_decay is an L2 penalty in the gradient, on every parameter."""
    return OPTIMIZERS[config.name](
        config,
        learning_rate=build_schedule(config, total_steps),
        parameters=parameters,
        weight_decay=paddle.regularizer.L2Decay(config.weight_decay) if config.weight_decay else None,
    )
