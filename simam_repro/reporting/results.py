"""What results/ and benchmarks/results/ hold, read for the report and for the tables of the README."""

from dataclasses import dataclass, field
from pathlib import Path

from simam_repro.config import PROJECT_ROOT
from simam_repro.evaluation.comparison import compare
from simam_repro.evaluation.statistics import MARGIN
from simam_repro.reporting.comparison_file import read_comparison, read_robustness
from simam_repro.run_files import or_warn, read_checked
from simam_repro.runs import RunFolder, complete_runs
from simam_repro.storage import read_json, write_json

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

    def records(self, name: str, seeds: list[int]) -> list[list[dict]]:
        """Those of an arm's runs that can be read; a warning names each other file."""
        runs = [self.runs[name, seed] for seed in seeds if (name, seed) in self.runs]
        return [records for run in runs if (records := or_warn(run.read_metrics, None))]


def read_sweeps(results: Path = RESULTS) -> list[Sweep]:
    """The sweeps below `results`, by name."""
    return [_read_sweep(path.parent) for path in sorted(results.glob("*/comparison.json"))]


def _read_sweep(folder: Path) -> Sweep:
    runs = complete_runs(folder)
    experiments = {experiment.name: experiment for experiment in (run.read_experiment() for run in runs)}
    comparison = read_comparison(folder / "comparison.json", experiments)
    return Sweep(
        folder,
        comparison["comparisons"],
        comparison.get("recomputable", True),
        read_robustness(folder / "robustness.json", experiments),
        {(result["name"], result["seed"]): run for run in runs for result in [run.read_result()]},
    )


def recompute(results: Path = RESULTS) -> list[tuple[Path, bool]]:
    """Compute each comparison.json below `results` again from the outcomes that were kept of its runs.

    Returns:
        The sweeps' folders, and whether their runs have outcomes; those without are left as they are.
    """
    folders = [path.parent for path in sorted(results.glob("*/comparison.json"))]
    return [(folder, _recompute(folder)) for folder in folders]


def _recompute(folder: Path) -> bool:
    runs, path = complete_runs(folder), folder / "comparison.json"
    if not all(run.outcomes.is_file() for run in runs):
        return False
    # An older one has no margin: that of today.
    margin = read_json(path)["method"].get("margin", MARGIN)
    write_json(path, compare(runs, margin=margin))
    return True


def read_benchmarks(folder: Path = BENCHMARKS) -> dict[str, dict]:
    """{file name without .json: content} of what `make bench` wrote."""
    return {path.stem: read_checked(path, dict) for path in sorted(folder.glob("*.json"))}
