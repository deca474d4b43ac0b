"""Optimizers and learning-rate schedules. Each is one function, and nothing else names it.

Its name is what a config says. Its keyword-only parameters are keys of the `optim` section, with type, bounds and
default; one without a default has to be given where the function is chosen, and only there. Paddle is imported when
an optimizer is built: a config is read without it.
"""

import inspect
from dataclasses import dataclass
from typing import Annotated, Callable

from pydantic import AfterValidator, Field

OPTIMIZERS: dict[str, Callable] = {}
SCHEDULES: dict[str, Callable] = {}


def _listed_in(registry: dict[str, Callable]):
    def add(function: Callable) -> Callable:
        registry[function.__name__] = function
        return function

    return add


def own_keys(function: Callable) -> dict[str, inspect.Parameter]:
    """The keys of `optim` that an optimizer or a schedule declares."""
    parameters = inspect.signature(function).parameters
    return {name: one for name, one in parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY}


# Optimizers: `shared` has learning_rate (a scheduler), parameters, weight_decay (a number) and grad_clip.


@_listed_in(OPTIMIZERS)
def momentum(shared: dict, *, momentum: Annotated[float, Field(ge=0.0, lt=1.0, description="for momentum only")] = 0.9):
    import paddle

    return paddle.optimizer.Momentum(momentum=momentum, **_with_l2_penalty(shared))


@_listed_in(OPTIMIZERS)
def sgd(shared: dict):
    import paddle

    return paddle.optimizer.SGD(**_with_l2_penalty(shared))


@_listed_in(OPTIMIZERS)
def adam(shared: dict):
    import paddle

    return paddle.optimizer.Adam(**_with_l2_penalty(shared))


@_listed_in(OPTIMIZERS)
def adamw(shared: dict):
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019): w <- w - lr * weight_decay * w, then Adam.

    On every parameter, as the L2 penalty of the others is.
    """
    import paddle

    return paddle.optimizer.AdamW(**shared)


def _with_l2_penalty(shared: dict) -> dict:
    """weight_decay as a penalty that is added to the gradient: weight_decay * w."""
    import paddle

    weight_decay = shared["weight_decay"]
    return {**shared, "weight_decay": paddle.regularizer.L2Decay(weight_decay) if weight_decay else None}


@dataclass(frozen=True)
class Span:
    """How long a schedule lasts. Its steps are counted from 0 behind the warm-up."""

    epochs: int
    steps_per_epoch: int
    warmup_steps: int = 0

    @property
    def steps(self) -> int:
        """At least 1."""
        return max(self.epochs * self.steps_per_epoch - self.warmup_steps, 1)

    def step_of(self, epoch: int) -> int:
        """The first step behind `epoch` epochs of the run."""
        return epoch * self.steps_per_epoch - self.warmup_steps


def _endless(schedule: Callable) -> Callable:
    """Marks a schedule whose rates do not depend on how many epochs the run has."""
    schedule.endless = True
    return schedule


def is_endless(name: str) -> bool:
    """Whether a run with this schedule that goes on for more epochs is the run that was to have them."""
    return getattr(SCHEDULES[name], "endless", False)


# Schedules: Paddle schedulers from the learning rate and the Span, stepped after every batch.


@_listed_in(SCHEDULES)
def cosine(rate: float, span: Span):
    """rate/2 * (1 + cos(pi * step / T_max)) with T_max all steps, so it ends at 0."""
    import paddle

    return paddle.optimizer.lr.CosineAnnealingDecay(rate, T_max=span.steps)


@_listed_in(SCHEDULES)
def cosine_swinging(rate: float, span: Span):
    """The cosine with T_max = epochs, so it swings with a period of 2 * epochs steps.

    The original Caltech code meant to step it once an epoch.
    """
    import paddle

    return paddle.optimizer.lr.CosineAnnealingDecay(rate, T_max=span.epochs)


@_listed_in(SCHEDULES)
@_endless
def constant(rate: float, span: Span):
    import paddle

    return paddle.optimizer.lr.LambdaDecay(rate, lambda step: 1.0)


def _increase(epochs: tuple) -> tuple:
    if not epochs or list(epochs) != sorted(set(epochs)) or epochs[0] < 1:
        raise ValueError("whole numbers from 1 on that increase, as in [82, 123]")
    return epochs


Milestones = Annotated[
    tuple[int, ...], Field(strict=False, max_length=1000, description="epochs after which the rate falls"),
    AfterValidator(_increase),
]  # fmt: skip


@_listed_in(SCHEDULES)
@_endless
def step(
    rate: float, span: Span, *, milestones: Milestones,
    gamma: Annotated[float, Field(gt=0.0, lt=1.0, description="for step only: the factor of each milestone")] = 0.1,
):  # fmt: skip
    """rate * gamma^(number of milestones passed), where a milestone is passed after so many epochs of the run."""
    import paddle

    return paddle.optimizer.lr.MultiStepDecay(rate, [span.step_of(epoch) for epoch in milestones], gamma)
