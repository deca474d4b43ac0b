"""Which runs belong together: the two halves of a pair, and the pairs of several seeds."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from simam_repro.config import ARM_KEYS, Experiment
from simam_repro.errors import UserError
from simam_repro.runs import RunFolder


def half_of(experiment: Experiment) -> str:
    """ "off" without attention, else "on"."""
    return "off" if experiment.model.attention.name == "none" else "on"


def shared_keys(experiment: Experiment) -> dict:
    """The keys that are the same in both halves of a pair, flat."""
    return experiment.recipe(without=ARM_KEYS)


@dataclass(frozen=True)
class Pairs:
    """Complete runs without and with attention, otherwise the same, by seed: {seed: run}, the seeds ascending.

    `missing` says of each other seed that one of the halves has what lacks; `members` are all runs of both halves,
    complete or not.
    """

    off: dict[int, RunFolder]
    on: dict[int, RunFolder]
    missing: tuple[str, ...]
    members: tuple[RunFolder, ...]


def find_pairs(runs: list[RunFolder]) -> tuple[list[Pairs], list[RunFolder]]:
    """Pairs over seeds, and the runs that belong to none. Runs need not be complete.

    Raises:
        UserError: two runs are the same half of the same pair.
    """
    recipes: dict[str, dict] = defaultdict(lambda: {"off": defaultdict(list), "on": defaultdict(list)})
    for run in runs:
        experiment = run.read_experiment()
        recipe = experiment.recipe(without=("seed", *ARM_KEYS))
        variant = (experiment.model.attention, experiment.name)
        recipes[json.dumps(recipe, sort_keys=True)][half_of(experiment)][variant].append((experiment.seed, run))
    found = [
        pairs
        for recipe in recipes.values()
        for variant, on in recipe["on"].items()
        for (_, name), off in recipe["off"].items()
        if (pairs := _pairs(name, off, variant[-1], on))
    ]
    members = {run for pairs in found for run in pairs.members}
    return found, [run for run in runs if run not in members]


def sweep_runs(folder) -> list[RunFolder]:
    """The runs in a sweep's folder, <folder>/<name>/seed<N>, complete or not.

    Raises:
        UserError: no folder, or no run in it.
    """
    folder = Path(folder)
    runs = [run for path in sorted(folder.glob("*/seed*")) if (run := RunFolder(path)).started]
    if not runs:
        raise UserError(f"{folder} has no runs: a sweep's runs are {folder.name}/NAME/seedN, each with its config.yaml")
    return runs


def _pairs(off_name: str, off: list, on_name: str, on: list) -> Pairs | None:
    off, on = _by_seed(off), _by_seed(on)
    seeds = sorted(off.keys() | on.keys())
    both = [seed for seed in seeds if all(seed in runs and runs[seed].complete for runs in (off, on))]
    missing = [
        f"{name} seed {seed}: {'not complete' if seed in runs else 'not there'}"
        for seed in seeds
        for name, runs in ((off_name, off), (on_name, on))
        if seed not in runs or not runs[seed].complete
    ]
    if not both:
        return None
    members = (*off.values(), *on.values())
    return Pairs({seed: off[seed] for seed in both}, {seed: on[seed] for seed in both}, tuple(missing), members)


def _by_seed(runs: list[tuple[int, RunFolder]]) -> dict[int, RunFolder]:
    by_seed: dict[int, RunFolder] = {}
    for seed, run in runs:
        if by_seed.setdefault(seed, run) is not run:
            raise UserError(f"{by_seed[seed].path} and {run.path} are the same half with seed {seed}; name one of them")
    return by_seed
