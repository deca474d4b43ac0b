"""Which runs belong together: the arms of a comparison, a baseline and others, and the seeds that they share."""

import json
from collections import defaultdict
from dataclasses import dataclass

from simam_repro import attention
from simam_repro.config import ARM_KEYS, Experiment
from simam_repro.errors import UserError
from simam_repro.runs import RunFolder

SPLIT = "data.split"
NO_ATTENTION = "none"  # the baseline where there is one


def arm_title(experiment: Experiment) -> str:
    """How an arm is called everywhere: its attention's title."""
    return attention.title(experiment.model.attention)


def arm_recipe(experiment: Experiment) -> dict:
    """What is the same in all arms of a comparison, flat, seeds and the splits that go with them aside."""
    return experiment.recipe(without=("seed", SPLIT, *ARM_KEYS))


@dataclass(frozen=True)
class Arm:
    """Runs that differ in the seed only, and in the split where each seed has its own; complete or not.

    Attributes:
        experiment: of one of them.
        runs: {seed: run}, the seeds ascending.
    """

    experiment: Experiment
    runs: dict[int, RunFolder]

    @property
    def title(self) -> str:
        return arm_title(self.experiment)

    @property
    def name(self) -> str:
        return self.experiment.name

    @property
    def identity(self) -> dict:
        """Title, experiment's name, and the module with its keys as in a config."""
        module = self.experiment.model.attention.model_dump(mode="json", exclude_none=True)
        return {"title": self.title, "name": self.name, "attention": module}

    def complete(self, seed: int) -> bool:
        return seed in self.runs and self.runs[seed].complete


@dataclass(frozen=True)
class Arms:
    """A baseline and the arms that have a complete run of a seed in common with it."""

    baseline: Arm
    others: tuple[Arm, ...]

    def seeds(self, arm: Arm) -> list[int]:
        """The seeds whose runs are complete in the baseline and in `arm`, ascending."""
        return [seed for seed in self.baseline.runs if self.baseline.complete(seed) and arm.complete(seed)]

    def missing(self) -> list[str]:
        """Of each seed that one of the arms has, what another lacks."""
        arms = (self.baseline, *self.others)
        return [
            f"{arm.name} seed {seed}: {'not complete' if seed in arm.runs else 'not there'}"
            for seed in sorted({seed for arm in arms for seed in arm.runs})
            for arm in arms
            if not arm.complete(seed)
        ]


def find_arms(runs: list[RunFolder], baseline: str | None = None) -> tuple[list[Arms], list[str]]:
    """Comparisons, one for each recipe, and what is in none of them, each with the reason where it is not plain.

    Runs need not be complete. Where several names stand for the same experiment, the first with most runs is the arm.

    Args:
        baseline: title, attention or experiment's name of the baseline arm; None: the arm without attention.
    Raises:
        UserError: two runs of one name are the same arm with the same seed; no arm is called `baseline`.
    """
    found, left_out, titles = [], [], set()
    for members in _recipes(runs):
        arms, repeated = _arms(members)
        titles |= {name for arm in arms for name in _called(arm)}
        chosen = next((arm for arm in arms if (baseline or NO_ATTENTION).casefold() in _called(arm)), None)
        comparison = _comparison(chosen, arms)
        used = {id(arm) for arm in (comparison.baseline, *comparison.others)} if comparison else set()
        found += [comparison] if comparison else []
        left_out += [text for arm in arms if id(arm) not in used for text in map(_told, arm.runs.values())] + repeated
    if baseline is not None and baseline.casefold() not in titles:
        raise UserError(f"no arm is called {baseline!r}; there are {', '.join(sorted(titles)) or 'none'}")
    return found, left_out


def _recipes(runs: list[RunFolder]) -> list[dict[tuple, list]]:
    """{(attention, name): [(experiment, run)]} of each recipe. Several splits are one recipe where each seed has one of
    its own, for then they vary together; else each split is a recipe."""
    recipes: dict[str, list] = defaultdict(list)
    for run in runs:
        experiment = run.read_experiment()
        recipes[json.dumps(arm_recipe(experiment), sort_keys=True)].append((experiment, run))
    found = []
    for members in recipes.values():
        pairs = {(experiment.seed, experiment.data.split) for experiment, _ in members}
        seeds, splits = (set(column) for column in zip(*pairs))
        together = len(pairs) == len(seeds) == len(splits)
        named: dict = defaultdict(lambda: defaultdict(list))
        for experiment, run in members:
            part = None if together else experiment.data.split
            named[part][experiment.model.attention, experiment.name].append((experiment, run))
        found += named.values()
    return found


def _arms(members: dict[tuple, list]) -> tuple[list[Arm], list[str]]:
    """The arms of one recipe, and the runs that are the same experiment as an arm's under another name."""
    by_attention = defaultdict(list)
    for (config, name), runs in members.items():
        by_attention[config].append((name, runs))
    arms, repeated = [], []
    for named in by_attention.values():
        (name, runs), *others = sorted(named, key=lambda one: -len(one[1]))
        arms.append(Arm(runs[0][0], _by_seed(runs)))
        repeated += [f"{_told(run)}, the same as {name}" for _, twins in others for _, run in twins]
    return arms, repeated


def _by_seed(runs: list[tuple[Experiment, RunFolder]]) -> dict[int, RunFolder]:
    by_seed: dict[int, RunFolder] = {}
    for experiment, run in sorted(runs, key=lambda pair: pair[0].seed):
        if by_seed.setdefault(experiment.seed, run) is not run:
            one = by_seed[experiment.seed].path
            raise UserError(f"{one} and {run.path} are the same arm with seed {experiment.seed}; name one of them")
    return by_seed


def _called(arm: Arm) -> set[str]:
    return {name.casefold() for name in (arm.title, arm.name, arm.experiment.model.attention.name)}


def _comparison(baseline: Arm | None, arms: list[Arm]) -> Arms | None:
    if baseline is None:
        return None
    candidates = Arms(baseline, tuple(arm for arm in arms if arm is not baseline))
    others = tuple(arm for arm in candidates.others if candidates.seeds(arm))
    return Arms(baseline, others) if others else None


def _told(run: RunFolder) -> str:
    return f"{run.path.parent.name}/{run.path.name}{'' if run.complete else ' (not complete)'}"
