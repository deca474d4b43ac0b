"""Going on with a run: what may change, what is repaired, and training longer."""

import re
import shlex
import shutil

import pytest
from photos import experiment, write_classes

from simam_repro.cli.commands import train as train_command
from simam_repro.errors import UserError
from simam_repro.evaluation import load_trained
from simam_repro.optimizers import SCHEDULES, is_endless
from simam_repro.runs import RUN_FIGURES, RunFolder
from simam_repro.storage import read_json, write_json
from simam_repro.sweeps import SweepRun, check_started
from simam_repro.training import fit
from simam_repro.training.checkpoints import WEIGHTS, epoch_of
from simam_repro.training.optim import build_schedule

STEPS = 4  # of two epochs
CONSTANT = {"schedule": "constant", "learning_rate": 0.003}
SPEEDS = re.compile("seconds|per_s|wall_s|wait_fraction")


def numbers(run: RunFolder):
    """All that a run leaves but its times."""
    result = {key: value for key, value in run.read_result().items() if not SPEEDS.search(key)}
    records = [{key: value for key, value in one.items() if not SPEEDS.search(key)} for one in run.read_metrics()]
    weights = [(folder / WEIGHTS).read_bytes() for folder in (run.last, run.best)]
    return result, records, weights, {key: value.tolist() for key, value in vars(run.read_predictions()).items()}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    write_classes(root / "photos")
    return root


@pytest.fixture(scope="module")
def whole(root):
    """A run of three epochs that was never stopped."""
    fit(experiment(root, CONSTANT, epochs=3), root / "whole")
    return RunFolder(root / "whole")


@pytest.fixture(scope="module")
def two_epochs(root):
    fit(experiment(root, CONSTANT, epochs=2), root / "two")
    return RunFolder(root / "two")


@pytest.fixture
def unfinished(two_epochs, tmp_path):
    """A run whose two epochs are done, all but the end."""
    run = RunFolder(shutil.copytree(two_epochs.path, tmp_path / "run"))
    run.result.unlink()
    run.predictions.unlink()
    return run


def test_a_longer_run_with_a_schedule_without_end_is_the_long_run(root, whole, two_epochs, tmp_path):
    run = RunFolder(shutil.copytree(two_epochs.path, tmp_path / "run"))
    fit(experiment(root, CONSTANT, epochs=3), run.path, resume=True)
    assert numbers(run) == numbers(whole)
    assert run.read_experiment() == whole.read_experiment()
    # The result of the two epochs stays.
    kept = read_json(run.path / "after_epoch2_result.json")
    assert kept == two_epochs.read_result() and (run.path / "after_epoch2_predictions.npz").is_file()
    (session,) = run.read_environment()["sessions"]
    assert session["config"] == {"train.epochs": {"from": 2, "to": 3}}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_endless_schedules_give_the_same_rates_whatever_the_epochs(schedule):
    optim = load_config_optim(schedule)
    short, long = (build_schedule(optim, epochs, 5) for epochs in (2, 4))
    rates = []
    for scheduler in (short, long):
        rates.append([])
        for _ in range(10):
            rates[-1].append(scheduler.get_lr())
            scheduler.step()
    assert (rates[0] == rates[1]) is is_endless(schedule)


def load_config_optim(schedule):
    from simam_repro.config import Optim

    return Optim(schedule=schedule, **({"milestones": [1]} if schedule == "step" else {}))


def test_a_longer_cosine_is_refused_with_the_command_for_a_new_run(root, tmp_path, monkeypatch):
    run = RunFolder(tmp_path / "run")
    fit(experiment(root), run.path)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="optim.schedule: cosine.* 2 epochs are another experiment") as caught:
        fit(experiment(root, epochs=2), run.path, resume=True)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    command = shlex.split(str(caught.value).partition("python scripts/train.py ")[2])
    monkeypatch.setattr("sys.argv", ["train.py", *command, "--run-dir", str(tmp_path / "new")])
    train_command.main()
    new = RunFolder(tmp_path / "new")
    assert new.read_result()["epochs"] == 2 and new.read_result()["name"] == "photos_longer"
    assert new.read_result()["weights"]["fresh"] == []


def test_a_complete_run_without_checkpoints_is_not_begun_anew(root, two_epochs, tmp_path):
    run = RunFolder(shutil.copytree(two_epochs.path, tmp_path / "run"))
    shutil.rmtree(run.checkpoints)
    with pytest.raises(UserError, match="no checkpoint to go on from"):
        fit(experiment(root, CONSTANT, epochs=3), run.path, resume=True)
    assert run.read_result() == two_epochs.read_result()


def test_keys_that_shape_no_number_may_change(root, two_epochs, unfinished, tmp_path):
    shutil.copytree(root / "data", tmp_path / "moved", dirs_exist_ok=True)
    began = experiment(root, CONSTANT, epochs=2, checkpoint_steps=1)
    data = began.data.model_copy(update={"num_workers": 1, "root": str(tmp_path / "moved")})
    changed = began.model_copy(update={"data": data})
    fit(changed, unfinished.path, resume=True)
    assert numbers(unfinished) == numbers(two_epochs)
    (session,) = unfinished.read_environment()["sessions"]
    assert set(session["config"]) == {"data.num_workers", "data.root", "train.checkpoint_steps"}
    assert session["config"]["data.num_workers"] == {"from": 0, "to": 1}
    # Whoever reads the run later finds the data where it is now.
    assert unfinished.read_experiment() == changed
    with pytest.raises(UserError, match="data.batch_size differ"):
        other = data.model_copy(update={"batch_size": 2})
        unfinished.check_experiment(changed.model_copy(update={"data": other}))


CUTS = {
    "metrics.jsonl": lambda text: text[:-30],
    "environment.json": lambda text: text[: len(text) // 2],
    "data.json": lambda text: "",
}


@pytest.mark.parametrize("name", CUTS)
def test_a_cut_file_is_written_anew_from_the_checkpoint(name, root, two_epochs, unfinished):
    file = unfinished.path / name
    file.write_text(CUTS[name](file.read_text()))
    fit(experiment(root, CONSTANT, epochs=2), unfinished.path, resume=True)
    assert numbers(unfinished) == numbers(two_epochs)
    assert unfinished.read_data() == two_epochs.read_data()
    # What is lost is said.
    assert unfinished.read_environment().get("lost_before_step") == (STEPS if name == "environment.json" else None)


def damage(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-5] ^= 1
    (folder / WEIGHTS).unlink()  # it shares its place on the disk with other checkpoints
    (folder / WEIGHTS).write_bytes(content)


def with_best_epoch(run: RunFolder, epoch: int, checkpoint) -> None:
    """Make the records of a run say that this epoch was the best, whose checkpoint is this."""
    from simam_repro.storage import checksum

    for folder in (run.last, run.previous):
        state = read_json(folder / "state.json")
        for record in state["records"]:
            record["eval_acc"] = 0.9 if record["epoch"] == epoch else 0.5
        write_json(folder / "state.json", state)
        sums = {**read_json(folder / "checksums.json"), "state.json": checksum(folder / "state.json")}
        write_json(folder / "checksums.json", sums)
    shutil.rmtree(run.best)
    shutil.copytree(checkpoint, run.best)


@pytest.mark.parametrize("best", [1, 2])
def test_a_damaged_best_is_taken_from_another_checkpoint(best, root, unfinished, capsys):
    source = unfinished.previous if best == 1 else unfinished.last
    with_best_epoch(unfinished, best, source)
    damage(unfinished.best)
    result = fit(experiment(root, CONSTANT, epochs=2), unfinished.path, resume=True)
    assert result["best"]["epoch"] == epoch_of(unfinished.best) == best
    assert (unfinished.best / WEIGHTS).read_bytes() == (source / WEIGHTS).read_bytes()
    assert "chosen_after_epoch" not in result["best"] and "warning" not in capsys.readouterr().err


def test_a_best_that_is_lost_is_chosen_anew_and_said(root, unfinished, capsys):
    with_best_epoch(unfinished, 1, unfinished.previous)
    shutil.rmtree(unfinished.previous)
    damage(unfinished.best)
    result = fit(experiment(root, CONSTANT, epochs=3), unfinished.path, resume=True)
    assert "weights of epoch 1" in capsys.readouterr().err
    assert result["best"]["epoch"] in (2, 3) and result["best"]["chosen_after_epoch"] == 1
    assert epoch_of(unfinished.best) == result["best"]["epoch"]
    load_trained(unfinished.path, device="cpu")


def test_a_sweep_with_more_epochs_goes_on_where_the_schedule_has_no_end(root, two_epochs):
    def sweep_run(optim, epochs):
        return SweepRun(experiment(root, optim, epochs=epochs), "photos.yaml", (), two_epochs)

    for epochs in (2, 3):
        check_started([sweep_run(CONSTANT, epochs)])
    with pytest.raises(UserError, match="train.epochs differ"):
        check_started([sweep_run(CONSTANT, 1)])
    with pytest.raises(UserError, match="optim.schedule"):
        check_started([sweep_run({**CONSTANT, "schedule": "cosine"}, 3)])


def test_a_run_of_a_sweep_is_finished_with_all_of_its_epochs(root, two_epochs, tmp_path):
    run = RunFolder(shutil.copytree(two_epochs.path, tmp_path / "run"))
    for name in RUN_FIGURES:
        run.figures.mkdir(exist_ok=True)
        (run.figures / name).touch()
    told = [SweepRun(experiment(root, CONSTANT, epochs=epochs), "photos.yaml", (), run).finished for epochs in (2, 3)]
    assert told == [True, False]


def test_a_damaged_list_of_weights_costs_no_result(root, two_epochs, unfinished, capsys):
    config = experiment(root, CONSTANT, epochs=2)
    weights = config.model.model_copy(update={"weights": str(two_epochs.last / WEIGHTS)})
    unfinished.config.write_text(config.model_copy(update={"model": weights}).to_yaml())
    unfinished.initial_weights.write_text('{"path": "x')
    assert fit(unfinished.read_experiment(), unfinished.path, resume=True)["weights"] is None
    assert "initial_weights.json" in capsys.readouterr().err and unfinished.complete


def test_foreign_files_disturb_no_resume(root, two_epochs, unfinished):
    for name in (
        ".DS_Store",
        ".nfs0001",
        ".ipynb_checkpoints/config-checkpoint.yaml",
        "train.log",
        "checkpoints/.nfs2",
    ):
        (unfinished.path / name).parent.mkdir(exist_ok=True)
        (unfinished.path / name).write_text("theirs")
    fit(experiment(root, CONSTANT, epochs=2), unfinished.path, resume=True)
    assert numbers(unfinished) == numbers(two_epochs)
    assert (unfinished.path / "train.log").read_text() == "theirs"
