"""Config files that are no configs: other files, slips of the keyboard, huge values."""

import os
import time

import pytest

from simam_repro.config import load_config
from simam_repro.errors import UserError

NAME = "name: a\n"
ODD = {
    "holds itself": ("name: &a [*a]", "name: "),
    "10,000 lists": ("name: " + "[" * 10_000, "nested too deeply"),
    "10,000 maps": ("name: " + "{a: " * 10_000, "nested too deeply"),
    "6,000 keys": ("".join(f"k{n}: 1\n" for n in range(6000)), "k18: .*\n  and 5981 more"),
    "2 MB": (NAME + "#" * 2**21, "larger than 1 MB"),
    "a huge anchor": (f"&{'a' * 500_000} name: a", "not valid YAML|not a valid experiment"),
    "digits": (NAME + "seed: " + "9" * 5000, "Exceeds the limit"),
    "hexadecimal digits": (NAME + "seed: 0x" + "f" * 500_000, "seed: .* got a huge int"),
    "a long value": (f"name: {'a' * 500_000}", r"name: .*\(500002 characters\)"),
    "a long key": (f"{'a' * 900}: 1", r"\(900 characters\): unknown key"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_files_are_refused_at_once(tmp_path, name):
    text, words = ODD[name]
    (tmp_path / "odd.yaml").write_text(text)
    begin = time.monotonic()
    with pytest.raises(UserError, match=words) as caught:
        load_config(tmp_path / "odd.yaml")
    assert time.monotonic() - begin < 20 and len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    "override", ["name=" + "[" * 10_000, "data.root" + ".a" * 10_000 + "=1", "seed=0x" + "f" * 9999]
)
def test_odd_overrides_are_refused_too(tmp_path, override):
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
        shown = str(path).replace("\0", r"\x00")
        assert f"cannot read config {shown}" in refusal(path)


def test_anchors_and_merge_keys_stay_useful(tmp_path):
    (tmp_path / "a.yaml").write_text(NAME + "data: &d {mean: &rgb [0.5, 0.5, 0.5], std: *rgb}\n")
    assert load_config(tmp_path / "a.yaml").data.std == (0.5, 0.5, 0.5)
