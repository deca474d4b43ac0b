"""What several test files share. No test reaches the network."""

import os
import urllib.request
from pathlib import Path
from urllib.error import URLError

import miniatures
import pytest
import yaml

from simam_repro.config import Data
from simam_repro.data import prepare_data

DEMO_PAIR = ("configs/demo_towernet.yaml", "configs/demo_towernet_simam.yaml")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    real = urllib.request.urlopen

    def local_only(url, *args, **kwargs):
        if not url.startswith("http://127.0.0.1:"):
            raise URLError("tests stay off the network")
        return real(url, *args, **kwargs)

    monkeypatch.setattr(urllib.request, "urlopen", local_only)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="session")
def caltech_archive(tmp_path_factory):
    return miniatures.write_caltech(tmp_path_factory.mktemp("caltech") / "101_ObjectCategories.tar.gz")


@pytest.fixture(scope="session")
def cifar_archive(tmp_path_factory):
    return miniatures.write_cifar(tmp_path_factory.mktemp("cifar") / "cifar-10-python.tar.gz")


@pytest.fixture
def data_root(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def warned():
    """Receives what `prepare` warns of."""
    return []


@pytest.fixture
def prepare(data_root, warned):
    """prepare(dataset, archive folders, **keys of the data section) -> PreparedData."""

    def run(dataset, archive_folders=(), **keys):
        config = Data(dataset=dataset, root=str(data_root), **keys)
        return prepare_data(config, archive_folders, warned.append, progress=False)

    return run


@pytest.fixture(scope="session")
def real_archive_folders():
    """The folders that SIMAM_ARCHIVES names; without it the tests of real archives are skipped."""
    folders = [Path(name) for name in os.environ.get("SIMAM_ARCHIVES", "").split(":") if name]
    if not folders:
        pytest.skip("SIMAM_ARCHIVES names no folder with real archives")
    return folders


@pytest.fixture(scope="session")
def smoke_data(miniature_data):
    """Options and environment that point at real archives when they are at hand, else at miniatures."""
    return ([], {}) if os.environ.get("SIMAM_ARCHIVES") else miniature_data


@pytest.fixture(scope="session")
def miniature_data(tmp_path_factory):
    """Options and environment that point at miniatures."""
    folder = tmp_path_factory.mktemp("miniatures")
    miniatures.write_caltech(folder / "archives" / "101_ObjectCategories.tar.gz")
    miniatures.write_cifar(folder / "archives" / "cifar-10-python.tar.gz")
    miniatures.write_cifar100(folder / "archives" / "cifar-100-python.tar.gz")
    options = ["-o", f"data.root={folder}", "-o", "data.allow_miniature=true"]
    return options, {"SIMAM_ARCHIVES": str(folder / "archives")}


@pytest.fixture
def write_sweep_file(tmp_path):
    """write_sweep_file(configs, seeds, **more) -> path of a sweep file of the demo's pair."""

    def write_file(configs=DEMO_PAIR, seeds=[0], name="small", **more):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"configs": configs, "seeds": seeds, **more}, sort_keys=False))
        return path

    return write_file
