"""Mutated configs: each trains a smoke step, or exits with 2 and one message; no traceback, no half-made folder."""

import collections
import sys

import miniatures
import pytest
from commands import script
from fuzz_configs import make_mutants

import simam_repro.data
import simam_repro.reporting
from simam_repro import cli
from simam_repro.cli.commands import train
from simam_repro.data.sets import shapes16

SEED, MUTANTS = 20260, 600
TRAINED_AT_ONCE = 3  # of those that the schema accepts, in the quick test; the slow one trains them all
MOST_PIXELS = 256  # side of the image; above it a step needs more memory than a test may take


class Accepted(Exception):
    """The config has passed the schema."""


@pytest.fixture(scope="module")
def miniature_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    miniatures.write_caltech(root / "archives" / "101_ObjectCategories.tar.gz")
    miniatures.write_cifar(root / "archives" / "cifar-10-python.tar.gz")
    return root


@pytest.fixture
def attempt(monkeypatch, capfd, miniature_root, tmp_path):
    """attempt(mutant, trains) -> "refused", "accepted", "trained" or "diverged"; asserts what holds for each."""
    monkeypatch.delenv("SIMAM_ARCHIVES", raising=False)
    monkeypatch.setattr(shapes16, "IMAGES_PER_CLASS", 6)
    monkeypatch.setattr(cli, "prepare_process", lambda: None)
    monkeypatch.setattr(simam_repro.reporting, "write_figures", lambda *_: None)  # takes longer than training
    prepare = simam_repro.data.prepare_data

    def run(mutant, trains) -> str:
        def prepare_or_stop(config, *arguments, **keys):
            if not trains(mutant, config):
                raise Accepted
            return prepare(config, *arguments, **keys)

        monkeypatch.setattr(simam_repro.data, "prepare_data", prepare_or_stop)
        run_dir = mutant.config.parent / "run"
        options = ["-o", f"data.root={miniature_root}", "-o", "data.allow_miniature=true", *mutant.options]
        command = ["train.py", "-c", mutant.config, "--smoke", "--run-dir", run_dir, *options]
        monkeypatch.setattr(sys, "argv", [str(part) for part in command])
        try:
            cli.run(train.main)
            code = 0
        except Accepted:
            return "accepted"
        except SystemExit as stop:
            code = stop.code
        except Exception as error:
            pytest.fail(f"{mutant}: {error!r}")
        said = capfd.readouterr().err
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        if code == 2:
            assert len(lines) == 1 and "Traceback" not in said, (mutant, said)
            assert len(said) < 3000 and not run_dir.exists(), (mutant, said)
            return "refused"
        if code == 1:  # the one failure that no look at a config can foresee
            assert "loss is" in lines[0] and "optim.learning_rate" in lines[0], (mutant, said)
            return "diverged"
        assert code == 0 and (run_dir / "result.json").is_file(), (mutant, said)
        return "trained"

    return run


def small(mutant, config) -> bool:
    return config.image_size <= MOST_PIXELS


def test_mutants_are_refused_with_one_message_or_accepted(attempt, tmp_path):
    mutants = make_mutants(MUTANTS, SEED, tmp_path / "mutants")
    counts = collections.Counter()

    def trains(mutant, config) -> bool:
        """A few that are cheap to train, and all that name a wrong file, which is found out later."""
        cheap = config.image_size <= 128 and counts["trained"] < TRAINED_AT_ONCE
        return cheap or any("/wrong/" in option for option in mutant.options)

    for mutant in mutants:
        counts[attempt(mutant, trains)] += 1
    print(counts)
    assert counts["refused"] >= 300 and counts["accepted"] >= 80 and counts["trained"] >= TRAINED_AT_ONCE
    assert not counts["diverged"]


@pytest.mark.slow
@pytest.mark.parametrize("part", range(6))
def test_accepted_mutants_train(attempt, tmp_path, part, record_property):
    mutants = make_mutants(MUTANTS, SEED, tmp_path / "mutants")[part::6]
    counts = collections.Counter(attempt(mutant, small) for mutant in mutants)
    record_property("counts", dict(counts))
    print(counts)
    assert counts["trained"] >= 10 and counts["accepted"] <= 5 and counts["diverged"] <= 3


@pytest.mark.slow
def test_a_sample_through_the_real_command(miniature_root, tmp_path):
    """Exit code and stderr of a process of its own; every 30th mutant."""
    for mutant in make_mutants(MUTANTS, SEED, tmp_path / "mutants")[::30]:
        run_dir = mutant.config.parent / "run"
        options = ["-o", f"data.root={miniature_root}", "-o", "data.allow_miniature=true", *mutant.options]
        if any("\0" in str(option) for option in options):  # no process can be given one
            continue
        done = script(
            "train", "-c", mutant.config, "--smoke", "--run-dir", run_dir, *options, env={"SIMAM_ARCHIVES": ""}
        )
        assert done.returncode in (0, 2) and "Traceback" not in done.stderr, (mutant, done.stderr)
        assert done.stderr.count("error: ") == (done.returncode == 2), (mutant, done.stderr)
        assert (run_dir / "result.json").is_file() == (done.returncode == 0) == run_dir.exists()
