"""What a person sees in VisualDL's page: the curves of a pair under readable names, in a real browser."""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from commands import ROOT, script

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PAIR = ("demo_towernet", "demo_towernet_simam")


@pytest.fixture
def page(tmp_path):
    """Address of `make visualdl` over the logs of a pair."""
    for name in PAIR:
        config = ROOT / f"configs/{name}.yaml"
        done = script("train", "-c", config, "--smoke", "--run-dir", tmp_path / "runs" / name / "seed0")
        assert done.returncode == 0, done.stderr
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["make", "visualdl", f"RUNS={tmp_path / 'runs'}", f"PORT={port}"]
    server = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    address = f"http://127.0.0.1:{port}/app/scalar"
    try:
        _wait_for(address)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _wait_for(address: str) -> None:
    for _ in range(120):
        try:
            with urllib.request.urlopen(address):
                return
        except urllib.error.HTTPError:  # it answers: the page wants a browser's headers
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"nothing answers at {address}")


def browse(address: str, profile, *options: str) -> str:
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}", "--window-size=1500,1100",
        "--virtual-time-budget=20000", *options, address,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_pair_of_runs_shows_its_curves(page, tmp_path):
    content = browse(page, tmp_path / "profile", "--dump-dom")
    for name in PAIR:
        assert f"{name} seed 0" in content
    assert all(f">{group}<" in content for group in ("eval", "train", "step", "speed"))
    assert content.count("<canvas") == 2  # the charts of the group that is open first: eval
    picture = tmp_path / "page.png"
    browse(page, tmp_path / "profile", f"--screenshot={picture}")
    assert picture.stat().st_size > 20_000
