"""README and the pages of docs/: every command in them runs, shortened where it trains; links lead somewhere.

The Chinese pages have the commands, links, headings and tables of the English ones.
"""

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

PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").glob("*.md") if not path.stem.endswith("zh-CN"))]
PAGE_NAMES = [path.name for path in PAGES]
# Their commands want the file that the page shows: tests of their own write it and run them.
WITH_A_FILE = {
    "add-a-backbone.md": "test_docs_pages.py", "add-a-data-set.md": "test_docs_pages.py",
    "add-a-module.md": "test_attention_files.py",
}  # fmt: skip
# What other tests run: these take long, serve until they are stopped, or install.
SWEEPS = {
    line
    for line in re.findall(
        r"^make sweep-\S+(?: \w+=\w+)*", "\n".join(page.read_text("utf-8") for page in PAGES), re.MULTILINE
    )
}
ELSEWHERE = {
    "make demo": "test_demo.py",
    "make test": "test_commands.py",
    "make setup": "test_setup_environment.py",
    "make visualdl": "test_visualdl_page.py",
    "make report": "test_report.py",
    "make gpu-check": "test_gpu_check.py",
    "make publish RUN=runs/demo_towernet_simam/seed0": "test_publish.py",
    "make signal-propagation SWEEP=sweeps/caltech_towernet_start.yaml": "test_propagation.py",
    "make verify RUN=runs/caltech_towernet_128px/caltech_towernet_simam/seed7": "test_verify.py",
    'pip install ".[cpu]"': "test_package.py",
    "pip install .": "test_package.py",
    "python scripts/sweep.py -c sweeps/cifar_alexnet.yaml --jobs auto": "test_sweep.py",
    "python scripts/sweep.py -c sweeps/caltech_towernet_128px.yaml --jobs 2": "test_sweep.py",
    **dict.fromkeys(SWEEPS, "test_sweep.py"),
}
# Trainings like others that run by default.
SLOW = re.compile(r"make (caltech-towernet .|compare-|faithful-)|.*(--nproc 2|num_workers=8|epochs=2)")


def chinese(page: Path) -> Path:
    return page.with_name(f"{page.stem}.zh-CN.md")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


COMMANDS = dict.fromkeys(
    line.split("  #")[0].split(" # ")[0].strip()
    for page in PAGES
    if page.name not in WITH_A_FILE
    for block in blocks(page, "bash")
    for line in block.splitlines()
    if line.strip()
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A pair of finished smoke runs, in the places of the documents'."""
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
    if words[0] == "simam":
        words[:1] = [sys.executable, str(ROOT / "simam_repro" / "__main__.py")]
    else:
        assert words[0] == "python" and words[1].startswith("scripts/"), f"no rule to shorten: {command}"
        words[0] = sys.executable
    return [*words, "--smoke", "--run-dir", run_dir, *options] if re.search(r"\btrain\b", command) else words


def weight(command: str):
    return pytest.param(command, marks=pytest.mark.slow if SLOW.match(command) else ())


@pytest.mark.parametrize("command", [weight(command) for command in COMMANDS if command not in ELSEWHERE])
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
    assert all((ROOT / "tests" / file).is_file() for file in WITH_A_FILE.values())
    for command, file in ELSEWHERE.items():
        assert command in COMMANDS, command
        assert (ROOT / "tests" / file).is_file()


def test_python_of_your_own_experiment(tmp_path):
    (code,) = blocks(ROOT / "docs" / "your-own-experiment.md", "python")
    short = code.replace('simam.yaml")', 'simam.yaml", ["data.train_limit=8", "data.eval_limit=8", "train.epochs=1"])')
    short = short.replace('"runs/mine"', repr(str(tmp_path / "mine")))
    assert short.count("train_limit") == 1 and str(tmp_path) in short
    done = run([sys.executable, "-c", short + "\nprint(result['epochs'])"])
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "1", done.stderr


def test_python_of_install():
    (code,) = blocks(ROOT / "docs" / "install.md", "python")
    assert run([sys.executable, "-c", code]).stdout.count("64, 32, 32") == 2


def test_readme_shows_the_module_of_its_page():
    """tests/test_attention_files.py runs these lines."""
    for language in ("python", "yaml"):
        assert blocks(ROOT / "README.md", language) == blocks(ROOT / "docs" / "add-a-module.md", language)


def yaml_examples() -> list[str]:
    return blocks(ROOT / "docs" / "your-own-experiment.md", "yaml")


@pytest.mark.parametrize("number", [0, 1])
def test_config_examples(number, tmp_path):
    values = yaml.safe_load(yaml_examples()[number])
    values["base"] = str(ROOT / "configs" / values["base"])
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    experiment = load_config(tmp_path / "mine.yaml")
    assert experiment.name == values["name"]
    if number == 0:
        assert experiment.data.image_size == 128 and experiment.model.attention.e_lambda == 1e-3


def test_sweep_example(tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml_examples()[2])
    found = read_sweep(tmp_path / "mine.yaml", tmp_path)
    assert len(found) == 3 * 5 * 2
    assert {run.experiment.model.attention.name for run in found} == {"none", "simam", "se"}
    assert {run.experiment.optim.learning_rate for run in found} == {0.005, 0.01}
    assert all(run.experiment.data.image_size == 128 for run in found)


@pytest.mark.parametrize("page", [*PAGES, *map(chinese, PAGES)], ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_demo_numbers_are_those_of_its_results():
    results = [
        RunFolder(ROOT / "results" / name / "seed0").read_result() for name in ("demo_towernet", "demo_towernet_simam")
    ]
    off, on = (f"{result['final']['eval_acc']:.2%}".replace("%", " %") for result in results)
    for readme in (ROOT / "README.md", ROOT / "README.zh-CN.md"):
        assert off in readme.read_text("utf-8") and on in readme.read_text("utf-8")
    assert all(result["data"]["stand_in"] and result["epochs"] == 5 for result in results)


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_the_chinese_page_has_the_same_commands_links_and_headings(page):
    english, other = page.read_text("utf-8"), chinese(page).read_text("utf-8")
    fences = re.compile(r"```.*?```", re.DOTALL)
    assert fences.findall(other) == fences.findall(english)
    assert links(other.replace(".zh-CN.md", ".md"), page.stem) == links(english, page.stem)
    for pattern in (r"^(#+) ", r"^\|(?=.*\|$)"):
        assert re.findall(pattern, fences.sub("", other), re.MULTILINE) == re.findall(
            pattern, fences.sub("", english), re.MULTILINE
        ), pattern


def links(text: str, own: str) -> list[str]:
    """Where a page's links lead, but for the one to its other language; without places in the page."""
    return sorted(
        target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if target not in (f"{own}.md", f"{own}.zh-CN.md")
    )


def test_targets_named_in_the_text_exist():
    listed = run(["make", "help"]).stdout
    for page in PAGES:
        for target in set(re.findall(r"`make ([a-z0-9-]+)", page.read_text("utf-8"))):
            assert re.search(rf"^{target} ", listed, re.MULTILINE), target


def test_no_reference_to_a_machine():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    pattern = re.compile(r"/(?:home|root|work|Users)/\w")
    for name in tracked:
        # Tests have such paths as examples; AI Studio's is the same for all of its users.
        if not name.startswith("tests/") and name.endswith(
            (".py", ".md", ".yaml", ".json", ".jsonl", ".txt", ".ipynb", ".lock", "Makefile")
        ):
            text = (ROOT / name).read_text(encoding="utf-8").replace("/home/aistudio/data", "")
            assert not pattern.search(text), name
