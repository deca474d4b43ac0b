"""What a person sees in VisualDL's page: the curves of a pair under readable names, in a real browser."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
from commands import ROOT, assert_refused, run, script

from simam_repro.config import load_config
from simam_repro.training.visualdl_log import hparams, open_log

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PAIR = ("demo_towernet", "demo_towernet_simam")


def write_logs(runs, names):
    """Logs of two epochs, as training writes them, of runs of one config and seed."""
    experiment = load_config(ROOT / "configs" / "demo_towernet.yaml")
    for name in names:
        with open_log(runs / name / "visualdl") as log:
            log.add_hparams(hparams(experiment), ["eval/loss"])
            for epoch in (1, 2):
                log.add_scalar("eval/loss", 1.0 / epoch, epoch)


def ask(address: str):
    """Content and headers, asked for as a browser does."""
    parts = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc)
    connection.request("GET", parts.path, headers={"Accept-Language": "en"})
    answer = connection.getresponse()
    return answer.read().decode(), answer.headers


def test_two_runs_of_one_config_are_both_there_and_no_other_server_is_asked(page):
    server = page.removesuffix("/app/scalar")
    names = json.loads(ask(f"{server}/app/api/runs")[0])["data"]
    assert sorted(names) == [f"./{name}/seed0/visualdl" for name in PAIR]
    policy = ask(page)[1]["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'") and "http" not in policy
    # VisualDL's page loads its analytics script where this is not empty.
    settings = ask(f"{server}/app/__snowpack__/env.local.js")[0]
    assert re.search(r"""TELEMETRY_ID['"]?[:=] *(''|"")""", settings), settings


def test_without_runs_or_with_a_port_in_use_nothing_is_served(tmp_path):
    assert_refused(script("show_curves", tmp_path), str(tmp_path), "holds no run")
    write_logs(tmp_path, ["a"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert_refused(script("show_curves", tmp_path, "--port", port), "--port", "choose another")


@pytest.mark.parametrize("home", [None, "/dev/null/nobody"])
def test_a_log_needs_no_home(home, tmp_path):
    environment = {"HOME": home} if home else {}
    code = "import os, sys; os.environ.pop('HOME') if sys.argv[1] == 'None' else 0\n"
    code += "home = os.environ.get('HOME')\nfrom simam_repro.training.visualdl_log import open_log\n"
    code += "open_log('log').add_scalar('a', 1.0, 1)\nassert os.environ.get('HOME') == home"
    done = run([sys.executable, "-c", code, str(home)], {**environment, "PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_run_without_a_log_does_not_import_visualdl(tmp_path):
    code = "import sys, simam_repro.training, simam_repro.reporting\nassert 'visualdl' not in sys.modules"
    assert run([sys.executable, "-c", code]).returncode == 0


@pytest.fixture
def page(tmp_path):
    """Address of `make visualdl` over the logs of a pair."""
    write_logs(tmp_path / "runs", [f"{name}/seed0" for name in PAIR])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        "make", "visualdl", "-o", f"{sys.prefix}/.ready", f"VENV={sys.prefix}", f"RUNS={tmp_path / 'runs'}",
        f"PORT={port}",
    ]  # fmt: skip
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
    log = tmp_path / "net.json"
    content = browse(page, tmp_path / "profile", "--dump-dom", f"--log-net-log={log}")
    asked = set(re.findall(r'"url":"\w+://([^/:"]+)', log.read_text()))
    assert "127.0.0.1" in asked and not [host for host in asked if "baidu" in host or "paddle" in host]
    for name in PAIR:
        assert f"./{name}/seed0/visualdl" in content
    assert ">eval<" in content and content.count("<canvas") == 1
    picture = tmp_path / "page.png"
    browse(page, tmp_path / "profile", f"--screenshot={picture}")
    assert picture.stat().st_size > 20_000
