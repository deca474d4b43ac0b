"""The page of `make gpu-check`, as far as a machine without a GPU can make it."""

import gpu_check
import pytest
from commands import script


def test_without_a_gpu_it_says_so_in_one_line(tmp_path):
    done = script("gpu_check", "--output", tmp_path / "page.md")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1 and "no GPU" in done.stdout
    assert not (tmp_path / "page.md").exists()


def test_the_page_has_versions_outcomes_and_speeds(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite><testcase name="a"/><testcase name="b"><failure message="1 != 2&#10;more"/></testcase>'
        '<testcase name="c"><skipped message="one GPU only"/></testcase></testsuite></testsuites>'
    )
    tests = gpu_check.read_report(report)
    assert tests == [("a", "passed", ""), ("b", "failed", "1 != 2"), ("c", "skipped", "one GPU only")]
    speeds = [gpu_check.Speed("alexnet", 1234.5, 5678.9, 321.0)]
    page = gpu_check.page({"gpu": "NVIDIA X", "paddle": "3.3.1"}, tests, speeds)
    for text in ("gpu: NVIDIA X", "paddle: 3.3.1", "| b | failed | 1 != 2 |", "| alexnet | 1234 | 5679 | 321 |"):
        assert text in page


def test_a_recipe_is_measured():
    speed = gpu_check.measure("alexnet_simam", "cpu", steps=1, overrides=["data.batch_size=2"])
    assert speed.train > 0 and speed.evaluate > 0 and speed.memory == pytest.approx(0)
