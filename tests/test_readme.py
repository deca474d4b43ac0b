"""Every command of the README runs: shortened where it trains, for real otherwise."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commands import ROOT, run, script

from simam_repro.config import load_config
from simam_repro.runs import RunFolder
from simam_repro.sweeps import read_sweep

README = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
# Run by other tests: make test is what runs this, the demo and sweeps take long, visualdl serves until it is stopped.
SWEEPS = (
    "make sweep-caltech-towernet", "make sweep-cifar-alexnet JOBS=2", "make sweep-caltech-towernet-128px JOBS=auto",
    "make keep RUN=runs/caltech_towernet_128px",
)  # fmt: skip
ELSEWHERE = {
    "make demo": "test_demo.py",
    "make test": "test_commands.py",
    "make visualdl": "test_visualdl_page.py",
    "make report": "test_report.py",
    **dict.fromkeys(SWEEPS, "test_sweep.py"),
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [
    line.split("  #")[0].split(" # ")[0].strip()
    for block in blocks("bash")
    for line in block.splitlines()
    if line.strip()
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A pair of finished smoke runs, in the places of the README's."""
    root = tmp_path_factory.mktemp("runs")
    for name in ("demo_towernet", "demo_towernet_simam"):
        done = script("train", "-c", f"configs/{name}.yaml", "--smoke", "--run-dir", root / name / "seed0")
        assert done.returncode == 0, done.stderr
    return root


def shortened(command: str, runs: Path, options: list, run_dir: Path) -> list[str]:
    """The command on this interpreter, on smoke data; runs/ becomes the folder of the fixture."""
    words = shlex.split(command.replace("runs/", f"{runs}/"))
    trains = any(word.startswith(("caltech-", "cifar-", "compare-", "faithful-")) for word in words)
    if words[0] == "make":
        arguments = [*options] if trains or "data-" in command else []
        arguments += ["--smoke"] if trains else []
        arguments += "--corruptions fog --severities 3 --attacks none".split() if "robustness" in command else []
        arguments += ["--overwrite", "--run-dir", run_dir] if trains and "compare" not in command else []
        words += ["-o", f"{sys.prefix}/.ready", f"VENV={sys.prefix}", f"ARGS={shlex.join(map(str, arguments))}"]
        return words
    if words[:2] == ["python", "scripts/compare.py"]:
        return [sys.executable, *words[1:]]
    assert words[:2] == ["python", "scripts/train.py"], f"no rule to shorten: {command}"
    return [sys.executable, *words[1:], "--smoke", "--run-dir", run_dir, *options]


@pytest.mark.parametrize("command", [command for command in dict.fromkeys(COMMANDS) if command not in ELSEWHERE])
def test_command(command, runs, smoke_data, tmp_path):
    options, environment = smoke_data
    words = shortened(command, runs, options, tmp_path / "run")
    if "--resume" in words:
        _leave_unfinished([word for word in words if word != "--resume"], tmp_path / "run", environment)
    done = run(words, env=environment)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip()


def _leave_unfinished(words: list, run_dir: Path, environment: dict) -> None:
    assert run(words, env=environment).returncode == 0
    (run_dir / "result.json").unlink()


def test_commands_that_run_elsewhere_do():
    for command, file in ELSEWHERE.items():
        assert command in COMMANDS
        assert (ROOT / "tests" / file).is_file()


def test_python_example(tmp_path):
    (code,) = blocks("python")
    short = code.replace('simam.yaml")', 'simam.yaml", ["data.train_limit=8", "data.eval_limit=8", "train.epochs=1"])')
    short = short.replace('"runs/mine"', repr(str(tmp_path / "mine")))
    assert short.count("train_limit") == 1 and str(tmp_path) in short
    done = run([sys.executable, "-c", short + "\nprint(result['epochs'])"])
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "1", done.stderr


def test_config_example(tmp_path):
    _, text = blocks("yaml")
    values = yaml.safe_load(text)
    values["base"] = str(ROOT / "configs" / values["base"])
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    experiment = load_config(tmp_path / "mine.yaml")
    assert experiment.name == "my_experiment" and experiment.data.image_size == 128
    assert experiment.model.attention.e_lambda == 1e-3


def test_sweep_example(tmp_path):
    text, _ = blocks("yaml")
    (tmp_path / "mine.yaml").write_text(text)
    runs = read_sweep(tmp_path / "mine.yaml", tmp_path)
    assert len(runs) == 2 * 3 * 2 and runs[0].name == "alexnet-short-seed0"
    assert runs[2].experiment.train.epochs == 50 and runs[2].experiment.data.train_limit == 5000


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_demo_numbers_are_those_of_its_results():
    results = [
        RunFolder(ROOT / "results" / name / "seed0").read_result() for name in ("demo_towernet", "demo_towernet_simam")
    ]
    off, on = (f"{result['final']['eval_acc']:.2%}".replace("%", " %") for result in results)
    for readme in (README, CHINESE):
        assert off in readme and on in readme
    assert all(result["data"]["stand_in"] and result["epochs"] == 5 for result in results)


def test_chinese_readme_has_the_same_commands_links_and_headings():
    fences = re.compile(r"```.*?```", re.DOTALL)
    assert fences.findall(CHINESE) == fences.findall(README)
    for pattern in (r"\]\((?!README)([^)]+)\)", r"^(#+) ", r"^\|(?=.*\|$)"):
        english, chinese = (re.findall(pattern, text, re.MULTILINE) for text in (README, CHINESE))
        assert english == chinese, pattern


def test_targets_named_in_the_text_exist():
    listed = run(["make", "help"]).stdout
    for target in set(re.findall(r"`make ([a-z0-9-]+)", README)):
        assert re.search(rf"^{target} ", listed, re.MULTILINE), target


def test_no_reference_to_a_machine():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    pattern = re.compile(r"/(?:home|root|work|Users)/\w")
    for name in tracked:
        # Tests have such paths as examples.
        if not name.startswith("tests/") and name.endswith(
            (".py", ".md", ".yaml", ".json", ".jsonl", ".txt", ".ipynb", ".lock", "Makefile")
        ):
            assert not pattern.search((ROOT / name).read_text(encoding="utf-8")), name
