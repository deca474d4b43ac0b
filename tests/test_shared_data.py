"""Data that several jobs share: nothing is lost, nothing half is trained on, nothing of the user's goes."""

import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time

import miniatures
import numpy as np
import pytest
from refusals import left_behind, refusal

from simam_repro.cli.commands import prepare_data as command
from simam_repro.config import Data
from simam_repro.data import class_folders, prepare_data

FORK = multiprocessing.get_context("fork")


def below(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# two jobs


def _prepare(archive, root, temporary, delay):
    os.environ["TMPDIR"], tempfile.tempdir = str(temporary), None
    time.sleep(delay)
    sys.argv = ["prepare_data.py", "-c", "configs/caltech_towernet.yaml"]
    sys.argv += ["-o", f"data.archive={archive}", "-o", f"data.root={root}"]
    command.main()


def race(folder, archive, images: int, delay: float) -> str:
    """Two `prepare_data.py`, each with a /tmp of its own, the second `delay` seconds later; "" when all is well."""
    temporaries = [folder / "tmp 1", folder / "tmp 2"]
    jobs = []
    for temporary, wait in zip(temporaries, (0, delay)):
        temporary.mkdir(parents=True)
        jobs.append(FORK.Process(target=_prepare, args=(archive, folder / "data", temporary, wait)))
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    sets = [path for path in (folder / "data").iterdir() if (path / "manifest.json").is_file()]
    manifest = json.loads((sets[0] / "manifest.json").read_text()) if sets else {"images": {}}
    listed = sum(map(len, manifest["images"].values()))
    found = len(list((folder / "data").glob("*/Images/*/*.jpg")))
    left = sorted(path.name for path in (folder / "data").glob(".*")) + [
        path.name for temporary in temporaries for path in temporary.iterdir()
    ]
    codes = [job.exitcode for job in jobs]
    whole = codes == [0, 0] and len(sets) == 1 and found == listed == images and not left
    return "" if whole else f"exit codes {codes}, {found} of {listed} images, left behind: {left}"


@pytest.mark.parametrize("delay", [0, 0.15])
def test_two_jobs_with_a_tmp_of_their_own_prepare_one_root(tmp_path, delay):
    archive = miniatures.write_images_zip(tmp_path / "own.zip", images_per_class=6)
    assert race(tmp_path / "race", archive, 16 * 6, delay) == ""


@pytest.mark.slow
def test_two_jobs_with_a_tmp_of_their_own_prepare_one_root_20_times(tmp_path):
    archive = miniatures.write_images_zip(tmp_path / "own.zip", images_per_class=250)
    began = time.monotonic()
    job = FORK.Process(target=_prepare, args=(archive, tmp_path / "alone", tmp_path, 0))
    job.start()
    job.join()
    alone = time.monotonic() - began
    failed = {}
    for number in range(20):
        delay = alone * number / 19  # the last one comes when the first is done
        if trouble := race(tmp_path / str(number), archive, 16 * 250, delay):
            failed[f"{delay:.2f} s"] = trouble
        shutil.rmtree(tmp_path / str(number))
    print(f"\n{20 - len(failed)} of 20 whole; alone it takes {alone:.1f} s", *failed.items(), sep="\n")
    assert failed == {}
