"""What results/ and benchmarks/results/ hold, read for the report and for the tables of the README."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from simam_repro.config import PROJECT_ROOT
from simam_repro.evaluation.older import present_comparison, present_robustness
from simam_repro.runs import RunFolder, find_runs
from simam_repro.storage import read_json

RESULTS = PROJECT_ROOT / "results"
BENCHMARKS = PROJECT_ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Sweep:
    """One folder below results/ with a comparison.json: a sweep's small files.

    Attributes:
        comparisons: the entries of comparison.json.
        recomputable: whether they follow from the outcomes that were kept of the runs.
        robustness: the content of robustness.json, None without one.
        runs: its runs, by (experiment name, seed).
    """

    folder: Path
    comparisons: list[dict]
    recomputable: bool
    robustness: dict | None
    runs: dict[tuple[str, int], RunFolder] = field(repr=False)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def command(self) -> str:
        return f"make sweep-{self.name.replace('_', '-')}"

    @property
    def wall_s(self) -> float:
        """Seconds of all runs together."""
        return sum(run.read_result()["wall_s"] for run in self.runs.values())


def read_sweeps(results: Path = RESULTS) -> list[Sweep]:
    """The sweeps below `results`, by name."""
    return [_read_sweep(path.parent) for path in sorted(results.glob("*/comparison.json"))]


def _read_sweep(folder: Path) -> Sweep:
    robustness = folder / "robustness.json"
    runs = [run for run in find_runs(folder) if run.complete]
    experiments = {experiment.name: experiment for experiment in (run.read_experiment() for run in runs)}
    comparison = present_comparison(read_json(folder / "comparison.json"), experiments)
    return Sweep(
        folder,
        comparison["comparisons"],
        comparison.get("recomputable", True),
        present_robustness(read_json(robustness), experiments) if robustness.is_file() else None,
        {(result["name"], result["seed"]): run for run in runs for result in [run.read_result()]},
    )


def read_benchmarks(folder: Path = BENCHMARKS) -> dict[str, dict]:
    """{file name without .json: content} of what `make bench` wrote."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
