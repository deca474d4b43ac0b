"""Config files that would take all memory or time, or are no files."""

import os
import subprocess
import sys
import time

import pytest
from commands import ROOT
from fuzz_configs import LAUGHS, MERGES

from simam_repro.config import load_config
from simam_repro.errors import UserError

NAME = "name: a\n"
BOMBS = {
    "billion laughs": (LAUGHS + "name: *a11", "stands for more than 5000 values"),
    "laughs as keys": (LAUGHS + "? *a11\n: 1", "stands for more than 5000 values"),
    "merges": (MERGES + "<<: *a11", "stands for more than 5000 values"),
    "holds itself": ("name: &a [*a]", "stands for more than 5000 values"),
    "10,000 lists": ("name: " + "[" * 10_000, "nested too deeply"),
    "10,000 maps": ("name: " + "{a: " * 10_000, "nested too deeply"),
    "30 lists": ("name: " + "[" * 30 + "]" * 30, "nested deeper than 20 levels"),
    "6,000 keys": ("".join(f"k{n}: 1\n" for n in range(6000)), "more than 5000 values"),
    "2 MB": (NAME + "#" * 2**21, "larger than 1 MB"),
    "a huge anchor": (f"&{'a' * 500_000} name: a", "not valid YAML|not a valid experiment"),
    "digits": (NAME + "seed: " + "9" * 5000, "Exceeds the limit"),
    "hexadecimal digits": (NAME + "seed: 0x" + "f" * 500_000, "seed: .* got a huge int"),
    "a long value": (f"name: {'a' * 500_000}", r"name: .*\(500002 characters\)"),
    "a long key": (f"{'a' * 900}: 1", r"\(900 characters\): unknown key"),
}
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
from simam_repro.config import load_config
from simam_repro.errors import UserError
try:
    load_config(sys.argv[1])
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_at_once(tmp_path, name):
    text, words = BOMBS[name]
    (tmp_path / "bomb.yaml").write_text(text)
    begin = time.monotonic()
    with pytest.raises(UserError, match=words) as caught:
        load_config(tmp_path / "bomb.yaml")
    assert time.monotonic() - begin < 20 and len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["billion laughs", "merges", "10,000 lists", "2 MB"])
def test_bombs_fit_in_a_gigabyte(tmp_path, name):
    (tmp_path / "bomb.yaml").write_text(BOMBS[name][0])
    command = [sys.executable, "-c", LIMITED, tmp_path / "bomb.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and BOMBS[name][1] in done.stdout, done.stderr


@pytest.mark.parametrize(
    "override", ["name=" + "[" * 10_000, "data.root" + ".a" * 10_000 + "=1", "seed=0x" + "f" * 9999]
)
def test_overrides_are_no_bombs_either(tmp_path, override):
    (tmp_path / "a.yaml").write_text(NAME)
    with pytest.raises(UserError) as caught:
        load_config(tmp_path / "a.yaml", [override])
    assert len(str(caught.value)) < 25_000  # it repeats what was typed


def refusal(path) -> str:
    with pytest.raises(UserError) as caught:
        load_config(path)
    return str(caught.value)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(2**30)
    for path in ("/dev/zero", "/dev/stdin", tmp_path, tmp_path / "pipe"):
        assert "it is a folder or a device, not a file" in refusal(path)
    assert "larger than 1 MB" in refusal(tmp_path / "sparse")
    for path in (tmp_path / ("x" * 300), tmp_path / "a\0b", tmp_path / "sparse" / "a.yaml"):
        assert f"cannot read config {path}" in refusal(path)


def test_bases_that_multiply_are_refused(tmp_path):
    """12 files of 2 bases each would be read 4,096 times."""
    (tmp_path / "0.yaml").write_text(NAME)
    for number in range(1, 13):
        (tmp_path / f"{number}.yaml").write_text(f"base: [{number - 1}.yaml, {number - 1}.yaml]")
    assert "more than 100 bases" in refusal(tmp_path / "12.yaml")


def test_anchors_and_merge_keys_stay_useful(tmp_path):
    (tmp_path / "a.yaml").write_text(NAME + "data: &d {mean: &rgb [0.5, 0.5, 0.5], std: *rgb}\n")
    assert load_config(tmp_path / "a.yaml").data.std == (0.5, 0.5, 0.5)
