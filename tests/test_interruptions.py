"""Preparing data while processes are killed, and while others prepare the same."""

import hashlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import time

import miniatures
import pytest
from commands import ROOT

from simam_repro.data.archives import find
from simam_repro.data.sets import caltech101_16

CONTENT = os.urandom(3 * 2**20)
SLOW_PREPARE = """
import sys, time
from simam_repro.config import Data
from simam_repro.data import class_folders, prepare_data

opened, pause, root, archives = class_folders.open_image, float(sys.argv[1]), *sys.argv[2:]

def slowly(*arguments):
    time.sleep(pause)
    return opened(*arguments)

class_folders.open_image = slowly
data = prepare_data(Data(root=root, allow_miniature=True), [archives], progress=False)
print(data.sha256, len(data.train), len(data.eval))
"""
DOWNLOAD = """
import sys
from simam_repro.data.archives import Source, locate

url, md5, folder = sys.argv[1:]
print(locate(Source("The Set", url, {"set.tar.gz": md5}, 1), [folder], progress=False))
"""


def start(code, *arguments) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()


def names(folder):
    """Without locks, which lie beside what they guard."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_unpacking_is_killed_and_then_done_by_two_at_once(tmp_path):
    archive = miniatures.write_caltech(tmp_path / "in" / "101_ObjectCategories.tar.gz")
    root = tmp_path / "data"
    killed = start(SLOW_PREPARE, 0.2, root, archive.parent)
    wait_for(lambda: list(root.glob(".caltech101_16_miniature.*.tmp/Images/*/*")))
    kill(killed)
    assert len(names(root)) == 1 and names(root)[0].startswith(".")  # half a set, under no name that is looked for

    both = [start(SLOW_PREPARE, 0.01, root, archive.parent) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] and outputs[0][0].endswith(" 64 32\n")
    # One of them has unpacked (and warned of the miniature's checksum), and the half is gone.
    assert sorted("has md5" in errors for _, errors in outputs) == [False, True]
    assert names(root) == ["caltech101_16_miniature"]
    assert len(list((root / "caltech101_16_miniature" / "Images").rglob("*.jpg"))) == 96


@pytest.fixture
def stuttering_server():
    """A server whose first answer stops half way, the others are slow; (its address, list of requests)."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: len(CONTENT) // 2])
            time.sleep(60 if len(requests) == 1 else 2)
            self.wfile.write(CONTENT[len(CONTENT) // 2 :])

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()


def test_a_killed_download_starts_anew_once_for_all_who_wait(tmp_path, stuttering_server):
    address, requests = stuttering_server
    arguments = (f"{address}/set.tar.gz", hashlib.md5(CONTENT).hexdigest(), tmp_path)
    killed = start(DOWNLOAD, *arguments)
    wait_for(lambda: any(path.stat().st_size >= 2**20 for path in tmp_path.glob(".set.tar.gz.*.tmp*")))
    kill(killed)
    assert not (tmp_path / "set.tar.gz").exists()

    both = [start(DOWNLOAD, *arguments) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [output for output, _ in outputs] == [f"{tmp_path / 'set.tar.gz'}\n"] * 2, outputs
    assert names(tmp_path) == ["set.tar.gz"] and (tmp_path / "set.tar.gz").read_bytes() == CONTENT
    assert len(requests) == 2


def test_a_download_in_progress_is_not_found(tmp_path):
    """What a killed download leaves has a name that no search finds."""
    (tmp_path / ".101_ObjectCategories.tar.gz.0123abcd.tmp.gz").write_bytes(b"half")
    assert find(caltech101_16.SOURCE, [tmp_path]) is None
