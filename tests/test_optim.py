"""Optimizers, learning-rate schedules and gradient clipping, each against numpy in float64."""

import numpy as np
import paddle
import pytest

from simam_repro.config import Experiment, Optim, build_experiment, load_config, smoke
from simam_repro.config_files import dump_yaml
from simam_repro.errors import UserError
from simam_repro.optimizers import OPTIMIZERS, SCHEDULES
from simam_repro.runs import RunFolder
from simam_repro.training.checkpoints import load_newest, save_checkpoint
from simam_repro.training.optim import build_optimizer, build_schedule

RATE, DECAY, MOMENTUM = 0.05, 0.02, 0.8


# the update of each optimizer


def momentum(w, g, state, rate, decay):
    state["v"] = MOMENTUM * state.get("v", 0) + g + decay * w
    return w - rate * state["v"]


def sgd(w, g, state, rate, decay):
    return w - rate * (g + decay * w)


def adam(w, g, state, rate, decay):
    g, t = g + decay * w, state.get("t", 0) + 1
    m, v = 0.9 * state.get("m", 0) + 0.1 * g, 0.999 * state.get("v", 0) + 0.001 * g**2
    state.update(t=t, m=m, v=v)
    return w - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def adamw(w, g, state, rate, decay):
    return adam(w - rate * decay * w, g, state, rate, 0.0)


def clipped(gradients, limit):
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    return [g * min(1, limit / norm) for g in gradients]


@pytest.mark.parametrize("clip_norm", [None, 1.5])
@pytest.mark.parametrize("update", [momentum, sgd, adam, adamw], ids=lambda one: one.__name__)
def test_update_is_the_formula(update, clip_norm):
    """Two parameters, six steps of a cosine; the norms of the gradients lie on both sides of the limit."""
    rng = np.random.default_rng(3)
    expected = [rng.normal(size=shape).astype(np.float32).astype(np.float64) for shape in ((4, 3), (5,))]
    weights = [paddle.create_parameter(list(w.shape), "float32") for w in expected]
    for weight, value in zip(weights, expected):
        weight.set_value(value.astype(np.float32))
    config = Optim(
        name=update.__name__, learning_rate=RATE, weight_decay=DECAY, momentum=MOMENTUM, clip_norm=clip_norm
    )  # fmt: skip
    optimizer = build_optimizer(config, weights, epochs=2, steps_per_epoch=3)
    states = [{}, {}]
    for step, scale in enumerate([0.01, 3, 0.1, 1, 0.3, 2]):
        gradients = [scale * rng.normal(size=w.shape).astype(np.float32) for w in expected]
        sum((w * paddle.to_tensor(g)).sum() for w, g in zip(weights, gradients)).backward()
        optimizer.step()
        optimizer.clear_grad()
        optimizer._learning_rate.step()
        rate = RATE / 2 * (1 + np.cos(np.pi * step / 6))
        used = clipped(gradients, clip_norm) if clip_norm else gradients
        expected = [update(w, g, s, rate, DECAY) for w, g, s in zip(expected, used, states)]
        for weight, value in zip(weights, expected):
            np.testing.assert_allclose(weight.numpy(), value, rtol=2e-5, atol=2e-6)


def test_every_optimizer_has_its_formula_here():
    assert set(OPTIMIZERS) == {"momentum", "sgd", "adam", "adamw"}


# the learning rates of all steps


EPOCHS, STEPS = 6, 5
NOW = np.arange(EPOCHS * STEPS)


def rates(**keys) -> np.ndarray:
    schedule, found = build_schedule(Optim(learning_rate=RATE, **keys), EPOCHS, STEPS), []
    for _ in NOW:
        found.append(schedule())
        schedule.step()
    return np.array(found)


EXPECTED = {
    "cosine": lambda now, left: RATE / 2 * (1 + np.cos(np.pi * now / left)),
    "cosine_swinging": lambda now, left: RATE / 2 * (1 + np.cos(np.pi * now / EPOCHS)),
    "constant": lambda now, left: np.full(len(now), RATE),
    "step": lambda now, left: RATE * 0.2 ** np.searchsorted([2 * STEPS, 5 * STEPS], now + len(NOW) - left, "right"),
}
KEYS = {"step": {"milestones": (2, 5), "gamma": 0.2}}


@pytest.mark.parametrize("warmup", [0, 1.4])  # 7 steps
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_learning_rates_are_the_formula(schedule, warmup):
    found, first = rates(schedule=schedule, warmup_epochs=warmup, **KEYS.get(schedule, {})), round(warmup * STEPS)
    np.testing.assert_allclose(found[:first], RATE * NOW[:first] / max(first, 1), rtol=1e-12)
    left = len(NOW) - first
    np.testing.assert_allclose(found[first:], EXPECTED[schedule](np.arange(left), left), rtol=1e-9, atol=1e-12)


def test_cosine_without_a_warmup_is_paddles_to_the_bit():
    paddles = paddle.optimizer.lr.CosineAnnealingDecay(RATE, T_max=EPOCHS * STEPS)
    for rate in rates():
        assert rate == paddles()
        paddles.step()


# resuming


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("stopped", [3, 10])  # in the warm-up, and behind it and the first milestone
def test_a_checkpoint_goes_on_to_the_bit(schedule, stopped, tmp_path):
    keys = {"warmup_epochs": 1.4, "clip_norm": 0.5, "weight_decay": DECAY, **KEYS.get(schedule, {})}
    config = Optim(name="adamw", schedule=schedule, learning_rate=RATE, **keys)
    images = paddle.to_tensor(np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32))

    def build():
        network = paddle.nn.Linear(3, 2)
        return network, build_optimizer(config, network.parameters(), EPOCHS, STEPS)

    def train(network, optimizer, steps):
        for _ in range(steps):
            (network(images) ** 2).mean().backward()
            optimizer.step()
            optimizer.clear_grad()
            optimizer._learning_rate.step()

    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    network, optimizer = build()
    train(network, optimizer, stopped)
    save_checkpoint(run, network, optimizer, {})
    train(network, optimizer, len(NOW) - stopped)
    again, resumed = build()
    load_newest(run, again, resumed)
    train(again, resumed, len(NOW) - stopped)
    assert resumed.get_lr() == optimizer.get_lr()
    for name, value in network.state_dict().items():
        assert np.array_equal(value.numpy(), again.state_dict()[name].numpy()), name


# the keys


def test_each_function_is_a_choice_of_the_config():
    for key, functions in (("name", OPTIMIZERS), ("schedule", SCHEDULES)):
        for name in functions:
            chosen = Optim(**{key: name}, **KEYS.get(name, {}))
            assert getattr(chosen, key) == name
            build_optimizer(chosen, [paddle.create_parameter([2], "float32")], EPOCHS, STEPS)


@pytest.mark.parametrize(
    ("optim", "words"),
    [
        ({"schedule": "step"}, "optim.milestones is for schedule: step and here missing"),
        ({"milestones": [82, 123]}, "optim.milestones is for schedule: step and here unused"),
        ({"schedule": "step", "milestones": [5, 5]}, "whole numbers from 1 on that increase"),
        ({"schedule": "step", "milestones": []}, "whole numbers from 1 on that increase"),
        ({"schedule": "step", "milestones": [3], "gamma": 1.0}, "optim.gamma"),
        ({"schedule": "multistep"}, "'constant' or 'step'"),
        ({"clip_norm": 0}, "optim.clip_norm"),
        ({"warmup_epochs": 100}, "optim.warmup_epochs needs a number below train.epochs"),
    ],
)
def test_what_does_not_go_together_is_refused(optim, words):
    with pytest.raises(UserError) as caught:
        build_experiment({"name": "a", "optim": optim})
    assert words in str(caught.value)


def test_a_smoke_run_warms_up_too():
    experiment = Experiment(name="a", optim=Optim(warmup_epochs=5, schedule="step", milestones=(82, 123)))
    small = smoke(experiment)
    assert build_experiment(small.model_dump()) == small
    schedule = build_schedule(small.optim, small.train.epochs, 2)
    assert schedule() == 0.0
    schedule.step()
    assert schedule() == small.optim.learning_rate


UNUSED = {
    "optim.momentum": ["optim.name=adam", "optim.momentum=0.5"],
    "optim.gamma": ["optim.schedule=cosine", "optim.gamma=0.5"],
    "data.augment.jitter": ["data.augment.jitter=cv2"],
}


@pytest.mark.parametrize("key", UNUSED)
def test_keys_that_are_set_and_not_used_are_refused_but_in_old_runs(key, tmp_path):
    base = "configs/demo_towernet.yaml"
    with pytest.raises(UserError, match=rf"{key} .*; leave it out"):
        load_config(base, UNUSED[key])
    run = RunFolder(tmp_path)
    experiment = load_config(base)
    section, _, last = key.rpartition(".")
    values = experiment.model_dump(mode="json")
    part = values["optim"] if section == "optim" else values["data"]["augment"]
    part[last] = "cv2" if last == "jitter" else 0.5
    run.config.write_text(dump_yaml(values))
    assert run.read_experiment().to_flat()[key] == part[last]
    # At its default, as every run records it, it says nothing.
    run.config.write_text(experiment.to_yaml())
    assert load_config(run.config) == experiment
