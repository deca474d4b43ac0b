"""The installer: which Paddle it takes, what it leaves alone. What the driver says is given; the index is a folder."""

import json
import shlex
import subprocess
import sys
import venv
import zipfile

import _paddle_builds
import pytest
import setup_environment
from _paddle_builds import Gpus, choose
from packaging.requirements import Requirement

ALWAYS, NEVER = (lambda folder: True), (lambda folder: False)


@pytest.mark.parametrize(
    "capabilities, driver, with_index, without_index",
    [
        ((), 0.0, "cpu", "cpu"),
        ((12.0,), 12.9, "cu129", "cpu"),
        ((12.0,), 12.8, "cu129", "cpu"),
        ((10.0,), 13.0, "cu129", "cpu"),
        ((9.0,), 12.6, "cu126", "cpu"),
        ((8.6,), 12.9, "cu129", "pypi"),
        ((8.6,), 12.4, "cu126", "pypi"),
        ((8.6,), 11.8, "pypi", "pypi"),
        ((8.6,), 0.0, "pypi", "pypi"),
        ((7.0,), 12.9, "cu126", "pypi"),
        ((6.1,), 12.9, "pypi", "pypi"),
        ((5.2,), 12.9, "cpu", "cpu"),
        ((12.0, 8.6), 12.9, "cu129", "cpu"),
        ((9.0, 7.0), 12.6, "cu126", "cpu"),
        ((12.0, 6.1), 12.9, "cpu", "cpu"),  # no build has code for both
        ((12.0,), 12.4, "cpu", "cpu"),
    ],
)
def test_the_build_that_runs_on_every_card(capabilities, driver, with_index, without_index):
    gpus = Gpus(capabilities, driver)
    assert choose("auto", gpus, ALWAYS)[0] == with_index
    assert choose("auto", gpus, NEVER)[0] == without_index


def test_what_was_asked_for_is_taken():
    for wanted in ("cpu", "cu126", "cu129"):
        assert choose(wanted, Gpus((8.6,), 12.9), NEVER)[0] == wanted
    assert choose("gpu", Gpus(), ALWAYS)[0] == "cu129"
    assert choose("gpu", Gpus((8.6,), 12.4), ALWAYS)[0] == "cu126"
    assert choose("gpu", Gpus((9.0,), 12.4), NEVER)[0] == "pypi"


def test_a_gpu_that_is_not_used_gets_a_reason_and_a_command():
    _, why = choose("auto", Gpus((9.0,), 12.6), NEVER)
    assert "9.0" in why and "did not answer" in why and "make setup PADDLE=cu126" in why
    _, why = choose("auto", Gpus((12.0, 6.1), 12.9), ALWAYS)
    assert "6.1, 12.0" in why and "make setup PADDLE=" in why


SMI = """#!/bin/sh
case "$*" in
*compute_cap*) printf '{cards}';;
*) echo '| NVIDIA-SMI 575.57   Driver Version: 575.57   CUDA Version: {driver}  |';;
esac
"""


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """nvidia_smi(text of the tool)"""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")

    def write(text: str) -> None:
        (folder / "nvidia-smi").write_text(text)
        (folder / "nvidia-smi").chmod(0o755)

    return write


def test_cards_and_driver_are_read_from_nvidia_smi(nvidia_smi):
    nvidia_smi(SMI.format(cards="7.5\\n8.6\\n", driver="12.9"))
    assert _paddle_builds.find_gpus() == Gpus((7.5, 8.6), 12.9)
    nvidia_smi("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert _paddle_builds.find_gpus() == Gpus()


def wheel(folder, name: str, version: str) -> None:
    """An empty package."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{module}.py", "")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project that requires Paddle and one more package, and wheels of both in folders."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "requirements-cpu.txt").write_text("# comment\npaddlepaddle==3.3.1\nnumpy>=2  # why\n")
    (root / "requirements-cpu.lock").write_text("paddlepaddle==3.3.1\nnumpy==2.0\n")
    wheel(tmp_path / "wheels", "paddlepaddle", "3.3.1")
    wheel(tmp_path / "wheels", "numpy", "2.0")
    index = tmp_path / "index" / "cu129"
    wheel(index / "paddlepaddle-gpu", "paddlepaddle-gpu", "3.3.1")
    (index / "paddlepaddle-gpu" / "index.html").write_text(
        '<a href="paddlepaddle_gpu-3.3.1-py3-none-any.whl">paddlepaddle_gpu-3.3.1-py3-none-any.whl</a>'
    )
    monkeypatch.setattr(setup_environment, "PROJECT_ROOT", root)
    monkeypatch.setattr(_paddle_builds, "PADDLE_INDEX", str(tmp_path / "index"))
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.setenv(name, (tmp_path / "nowhere").as_uri())
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return root


def set_up(monkeypatch, folder, *arguments) -> dict[str, str]:
    """Run the installer; what is in the environment then."""
    monkeypatch.setattr(sys, "argv", ["setup_environment.py", str(folder), *map(str, arguments)])
    setup_environment.main()
    return dict(text.split("==") for text in setup_environment.installed(folder))


def test_it_installs_from_a_folder_of_wheels_and_updates_in_place(project, tmp_path, monkeypatch, nvidia_smi, capsys):
    folder, wheels = tmp_path / "env", tmp_path / "wheels"
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name)
    nvidia_smi("#!/bin/sh\nexit 9\n")
    packages = set_up(monkeypatch, folder, "--wheels", wheels)
    assert (packages["paddlepaddle"], packages["numpy"]) == ("3.3.1", "2.0")
    assert (folder / "bin" / "python").is_symlink()
    assert "no NVIDIA GPU" in capsys.readouterr().out

    # The requirements change: what the user put beside them stays, and nothing is cleared.
    (folder / "notes.txt").write_text("mine")
    wheel(wheels, "numpy", "2.1")
    (project / "requirements-cpu.lock").write_text("paddlepaddle==3.3.1\nnumpy==2.1\n")
    assert set_up(monkeypatch, folder, "--wheels", wheels)["numpy"] == "2.1"
    assert (folder / "notes.txt").read_text() == "mine"

    # The user replaces Paddle by another build: from then on the environment is his.
    wheel(wheels, "paddlepaddle-gpu", "3.3.1")
    pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "uninstall", "-y", "paddlepaddle"], check=True)
    subprocess.run([*pip, "install", "--no-index", "-f", wheels, "paddlepaddle-gpu"], check=True)
    (project / "requirements-cpu.lock").write_text("paddlepaddle==3.4.0\nnumpy==2.1\n")
    packages = set_up(monkeypatch, folder, "--wheels", wheels)
    assert "paddlepaddle" not in packages and "paddlepaddle-gpu" in packages
    assert "as it is" in capsys.readouterr().out


def test_a_modern_card_gets_the_build_of_paddles_index(project, tmp_path, monkeypatch, nvidia_smi, capsys):
    nvidia_smi(SMI.format(cards="12.0\\n8.6\\n", driver="12.9"))
    packages = set_up(monkeypatch, tmp_path / "env")
    assert packages["paddlepaddle-gpu"] == "3.3.1" and "paddlepaddle" not in packages
    assert "cu129" in capsys.readouterr().out


def test_an_environment_of_the_users_is_used_or_refused_but_never_changed(project, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "mine"
    venv.create(folder, with_pip=False, symlinks=True)
    with pytest.raises(SystemExit) as stopped:
        set_up(monkeypatch, folder)
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and "paddlepaddle" in message and "numpy" in message and "-m pip install" in message
    assert not (folder / ".ready").exists()
    # One Paddle, and a command that asks for one on each platform.
    lacks, command = message.split("\n")[:2]
    assert lacks.count("paddlepaddle") == 1 and ";" not in lacks
    options = [Requirement(text) for text in shlex.split(command.split("pip install ")[1])]
    assert [one.name for one in options if not one.marker or one.marker.evaluate()].count("paddlepaddle") == 1

    site = next(folder.glob("lib/python3*/site-packages"))
    for name, version in (("paddlepaddle_gpu", "2.6.2"), ("numpy", "2.0")):
        info = site / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    before = sorted(site.iterdir())
    set_up(monkeypatch, folder)
    assert sorted(site.iterdir()) == before
    assert json.loads((folder / ".ready").read_text()) == {"made_here": False}


def test_a_folder_that_is_no_environment_stays(project, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_text("")
    with pytest.raises(SystemExit):
        set_up(monkeypatch, folder, "--paddle", "cpu")
    assert "no virtual environment" in capsys.readouterr().err and (folder / "a.jpg").is_file()


def test_the_twin_of_the_cuda_environment_has_its_versions_without_its_libraries(tmp_path):
    lines = setup_environment.requirement_lines("2.6-cpu")
    assert any(line.startswith("paddlepaddle==2.6.2") for line in lines)
    assert not any(line.startswith(("paddlepaddle-gpu", "nvidia-")) for line in lines)
    assert any(line.startswith("paddlepaddle-gpu==3.") for line in setup_environment.requirement_lines("cu126"))


def test_python_sh_runs_the_newest_that_works(tmp_path):
    script = setup_environment.PROJECT_ROOT / "scripts" / "python.sh"
    tools = tmp_path / "tools"
    tools.mkdir()

    def command(name: str, text: str) -> None:
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)

    def run():
        return subprocess.run(["/bin/sh", script, "-V"], env={"PATH": str(tools)}, capture_output=True, text=True)

    none = run()
    assert none.returncode == 2 and "uv python install" in none.stderr and "conda create" in none.stderr
    command("uv", 'echo "uv $*"')
    assert run().stdout.startswith("uv run") and "--python 3.13 -V" in run().stdout
    command("python3.13", "exit 127")  # what a version manager leaves on PATH
    command("python3.12", 'if [ "$1" = -c ]; then exit 0; fi; echo "3.12 $*"')
    command("python3.11", 'echo "3.11 $*"')
    assert run().stdout == "3.12 -V\n"


def test_cuda_libraries_are_linked_under_both_names(tmp_path):
    folder = tmp_path / "lib/python3.11/site-packages/nvidia/cudnn/lib"
    folder.mkdir(parents=True)
    (folder / "libcudnn.so.8").write_text("library")
    setup_environment.link_cuda_libraries(tmp_path)
    setup_environment.link_cuda_libraries(tmp_path)
    assert sorted(path.name for path in (tmp_path / "cuda").iterdir()) == ["libcudnn.so", "libcudnn.so.8"]
    assert (tmp_path / "cuda" / "libcudnn.so").read_text() == "library"
