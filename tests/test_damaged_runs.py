"""Run folders that somebody or something has changed: one message that names file and field, and the others go on."""

import json

import numpy as np
import pytest
from made_runs import write_run, write_sweep

from simam_repro import cli
from simam_repro.cli.commands import compare as compare_command
from simam_repro.cli.jobs import COMPLETE, Job
from simam_repro.cli.rank import note_failure
from simam_repro.cli.sweep_report import news
from simam_repro.config import PROJECT_ROOT
from simam_repro.device import out_of_memory_explained
from simam_repro.errors import RunError, UserError, printable
from simam_repro.evaluation.comparison import compare
from simam_repro.reporting import prediction_line, side_by_side, summary_line
from simam_repro.reporting.report import write_report
from simam_repro.reporting.results import read_sweeps
from simam_repro.runs import RUN_FIGURES, RunFolder, complete_runs
from simam_repro.storage import read_json, write_json
from simam_repro.sweeps import SweepRun


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "sweep" / "made" / "seed0")


def changed(path, key: str, value):
    content = read_json(path)
    *sections, last = key.split(".")
    part = content
    for section in sections:
        part = part[int(section) if isinstance(part, list) else section]
    if value is KeyError:
        del part[last]
    else:
        part[last] = value
    write_json(path, content)


RESULTS = [
    ("final.eval_acc", "0.9"), ("final.eval_acc", 1.5), ("best", None), ("best.epoch", 2.5), ("wall_s", True),
    ("data.sha256", 12), ("data.stand_in", "no"), ("name", KeyError), ("data.class_names", "cat"),
    ("wall_s", float("nan")),
]  # fmt: skip


@pytest.mark.parametrize("key, value", RESULTS, ids=str)
def test_an_edited_result_names_file_and_field(key, value, run):
    changed(run.result, key, value)
    with pytest.raises(UserError) as told:
        run.read_result()
    assert f"{run.result}: {key}: " in str(told.value) and "\n" not in str(told.value)


def test_other_files_name_themselves(run):
    changed(run.environment, "nproc", "two")
    with pytest.raises(UserError, match="environment.json: nproc: "):
        run.read_environment()
    lines = run.metrics.read_text().splitlines()
    run.metrics.write_text("\n".join([lines[0], lines[1].replace("0.5", '"half"'), lines[2]]))
    with pytest.raises(UserError, match="metrics.jsonl, line 2: train_acc: .*'half'"):
        run.read_metrics()
    run.metrics.write_text("\n".join(lines)[:-20])
    with pytest.raises(UserError, match="metrics.jsonl, line 3 cannot be read"):
        run.read_metrics()
    for content in (b"[]", b"\xff\xfe", b"[" * 100_000, b"3"):
        run.result.write_bytes(content)
        with pytest.raises(UserError, match="result.json"):
            run.read_result()


def test_runs_as_they_are_committed_are_read():
    """What is asked of the files holds for all results so far."""
    folders = [RunFolder(path.parent) for path in (PROJECT_ROOT / "results").glob("*/*/seed*/result.json")]
    assert len(folders) > 10
    for folder in folders:
        assert folder.read_result() == read_json(folder.result)
        assert folder.read_environment() and len(folder.read_metrics()) == folder.read_result()["epochs"]


PREDICTIONS = {
    "ids that are numbers": {"sample_ids": np.arange(4)},
    "an id twice": {"sample_ids": np.array(["a", "a", "b", "c"])},
    "labels that are no whole numbers": {"labels": np.zeros(4)},
    "logits that are text": {"logits_final": np.full((4, 4), "x")},
    "logits that are whole numbers": {"logits_best": np.zeros((4, 4), int)},
    "a label beyond the classes": {"labels": np.array([0, 1, 2, 9])},
    "objects": {"labels": np.array([None] * 4)},
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_edited_predictions_are_refused(name, run):
    arrays = {key: value for key, value in vars(run.read_predictions()).items()}
    np.savez(run.predictions, **{**arrays, **PREDICTIONS[name]})
    with pytest.raises(UserError, match="predictions.npz cannot be read"):
        run.read_predictions()


def job_of(run: RunFolder) -> Job:
    run.figures.mkdir()
    for name in RUN_FIGURES:
        (run.figures / name).touch()
    return Job(SweepRun(run.read_experiment(), "x.yaml", (), run), run.path / "log")


def test_a_sweep_bears_a_cut_file(run):
    """The table goes on without its epochs; the result is named."""
    run.metrics.write_text(run.metrics.read_text()[:-20])
    job = job_of(run)
    assert job.state == COMPLETE and job.records == [] and job.seconds == 60 and "66" not in news(job)
    run.result.write_text(run.result.read_text()[:40])
    assert job.seconds == 0 and "result.json" in news(job)


@pytest.mark.parametrize("name", ["result.json", "environment.json", "config.yaml", "predictions.npz"])
def test_one_damaged_run_of_a_sweep_is_named_and_the_others_are_read(name, run, tmp_path, capsys):
    other = write_run(tmp_path / "sweep" / "made" / "seed1", seed=1)
    (run.path / name).write_bytes((run.path / name).read_bytes()[:60] + b": {[")
    assert [one.path for one in complete_runs(tmp_path / "sweep")] == [other.path]
    told = capsys.readouterr().err
    assert (
        told.startswith("warning: ")
        and str(run.path / name) in told
        and "going on without it" in told
        or name == "config.yaml"
    )


ESCAPE = "\x1b[31mred\x07\u202e"


def test_terminal_escapes_are_shown_escaped(run):
    assert printable("été 猫\n\t" + ESCAPE) == "été 猫\n\t\\x1b[31mred\\x07\\u202e"
    assert printable("a\udce4b") == "a\\udce4b"
    assert str(UserError(f"{ESCAPE}: unknown key")) == "\\x1b[31mred\\x07\\u202e: unknown key"
    assert "\x1b" not in str(RunError(ESCAPE)) and "\x1b" not in cli.relative(f"/tmp/{ESCAPE}")
    changed(run.result, "data.name", ESCAPE)
    result = {**run.read_result(), "device": "cpu"}
    line = prediction_line(f"{ESCAPE}.png", np.array([0.6, 0.4]), [ESCAPE, "cat"], 2, 10)
    for text in (summary_line(result), side_by_side([run.path]), line):
        assert "\\x1b[31m" in text and "\x1b" not in text


@pytest.mark.parametrize(
    "error",
    [OSError(12, "Cannot allocate memory"), RuntimeError("can't start new thread"), RuntimeError("std::bad_alloc")],
)
def test_too_little_memory_by_other_names(error):
    with pytest.raises(RunError, match="memory is too small"), out_of_memory_explained():
        raise error


def test_a_rank_that_gets_no_memory_says_so(tmp_path, capsys):
    note_failure(tmp_path, 1, MemoryError("Traceback"))
    failure = json.loads((tmp_path / "failure.json").read_text())
    assert failure["kind"] == "RunError" and "process 1 gets too little memory" in failure["message"]

    def main():
        raise MemoryError

    with pytest.raises(SystemExit) as left:
        cli.run(main, computes=False)
    assert left.value.code == 1 and capsys.readouterr().err.startswith("error: the memory is too small")


def test_a_job_whose_log_cannot_be_written_is_not_at_work(run):
    """What stops a sweep is then told, not hidden by the end of a process that never began."""
    job = Job(SweepRun(run.read_experiment(), "x.yaml", (), run), run.path / "config.yaml" / "log")
    with pytest.raises(OSError):
        job.start(["true"], {})
    assert not job.works


@pytest.fixture
def sweep(tmp_path):
    write_sweep(tmp_path / "sweep", seeds=3, images=40)
    return tmp_path / "sweep"


def compare_sweep(folder, monkeypatch) -> dict:
    monkeypatch.setattr("sys.argv", ["compare.py", "--sweep", str(folder)])
    compare_command.main()
    return read_json(folder / "comparison.json")


@pytest.mark.parametrize("name", ["environment.json", "result.json", "predictions.npz", "config.yaml"])
def test_a_comparison_goes_on_without_a_damaged_run(name, sweep, monkeypatch, capsys):
    path = sweep / "made_simam" / "seed1" / name
    path.write_bytes(path.read_bytes()[:40] + b": {[")
    comparison = compare_sweep(sweep, monkeypatch)
    (arm,) = comparison["comparisons"][0]["arms"]
    assert arm["seeds"] == [0, 2] and comparison["left_out"] == ["made_simam/seed1 (damaged)"]
    told = capsys.readouterr()
    assert str(path) in told.err and "made_simam/seed1 (damaged)" in " ".join(told.out.split())


def test_a_comparison_needs_no_metrics(sweep, monkeypatch):
    (sweep / "made" / "seed0" / "metrics.jsonl").write_text("{")
    (arm,) = compare_sweep(sweep, monkeypatch)["comparisons"][0]["arms"]
    assert arm["seeds"] == [0, 1, 2]


def test_other_class_names_are_other_data(sweep):
    names = ["a", "b", "c", "d"]
    for seed, run in (("seed0", "made"), ("seed0", "made_simam")):
        changed(sweep / run / seed / "result.json", "data.class_names", names)
        names = ["a", "b", "c", "D"]
    with pytest.raises(UserError, match="are of different data .*class d is gone; class D is new"):
        compare([RunFolder(sweep / "made" / "seed0"), RunFolder(sweep / "made_simam" / "seed0")])


@pytest.mark.parametrize("name", ["metrics.jsonl", "environment.json", "result.json"])
def test_a_report_goes_on_without_a_damaged_run(name, sweep, monkeypatch, tmp_path, capsys):
    compare_sweep(sweep, monkeypatch)
    path = sweep / "made" / "seed2" / name
    path.write_bytes(path.read_bytes()[:40])
    write_report(tmp_path, tmp_path, tmp_path)
    assert (tmp_path / "report.html").is_file() and str(path) in capsys.readouterr().err


COMPARISONS = [
    ("comparisons", "none"), ("comparisons.0.arms.0.n", "three"), ("comparisons.0.arms.0.final.difference.mean", "0.1"),
    ("comparisons.0.arms.0.final.difference.t_interval", [1.0]), ("comparisons.0.data.stand_in", 0),
    ("comparisons.0.title", KeyError), ("comparisons.0.arms", []),
]  # fmt: skip


def test_an_edited_comparison_names_file_and_field(sweep, monkeypatch, tmp_path):
    whole = compare_sweep(sweep, monkeypatch)
    for key, value in COMPARISONS:
        write_json(sweep / "comparison.json", whole)
        changed(sweep / "comparison.json", key, value)
        with pytest.raises(UserError) as told:
            read_sweeps(tmp_path)
        assert f"comparison.json: {key}: " in str(told.value) and "compare.py" in str(told.value), key
    for content in ("{", "[]", '{"schema": 3}', '{"schema": 1}'):
        (sweep / "comparison.json").write_text(content)
        with pytest.raises(UserError, match="comparison.json"):
            read_sweeps(tmp_path)
