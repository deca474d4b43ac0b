"""make demo, as a newcomer runs it."""

import re
import sys

import pytest
from commands import ROOT, run

from simam_repro.runs import RunFolder


@pytest.mark.slow
def test_demo_prints_a_table_and_both_networks_learn():
    done = run(["make", "demo", "-o", f"{sys.prefix}/.ready", f"VENV={sys.prefix}"], timeout=900)
    assert done.returncode == 0, done.stderr
    assert "stand-in data" in done.stdout.lower() and "make visualdl" in done.stdout
    figure = re.search(r"figure: +(\S+\.png)", done.stdout).group(1)
    assert (ROOT / figure).stat().st_size > 10_000
    for name, attention in (("demo_towernet", "none"), ("demo_towernet_simam", "simam")):
        run_folder = RunFolder(ROOT / "runs" / name / "seed0")
        result = run_folder.read_result()
        assert result["attention"] == attention and result["data"]["stand_in"] is True
        assert result["final"]["eval_acc"] >= 0.60
        assert f"{result['final']['eval_acc']:.2%}" in done.stdout
        assert len(list((run_folder.figures).glob("*.png"))) >= 4
