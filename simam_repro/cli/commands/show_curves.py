"""Serve the curves, figures and configs of runs as a page for the browser, with VisualDL.

The page asks no other server for anything, and nothing is reported to anybody.
"""

import argparse
import os
import socket
from pathlib import Path

from simam_repro import cli, visualdl_import  # noqa: F401, before anything else imports VisualDL

# Whatever VisualDL's page asks for comes from here: it has a script of a public analytics server.
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="?", metavar="RUNS", help="a run, or a folder of runs; default runs")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: for other machines, too; default 127.0.0.1")
    parser.add_argument("--port", type=cli.positive, default=8040, help="default 8040")
    return parser.parse_args()


def main():
    arguments = parse_arguments()

    from simam_repro.runs import RUNS_ROOT

    runs = arguments.runs or RUNS_ROOT
    if not any(runs.rglob("vdlrecords.*")):
        raise cli.UserError(f"{runs} holds no run with a VisualDL log; train one, or name another folder")
    _check_address(arguments.host, arguments.port)
    print(f"VisualDL: http://{arguments.host}:{arguments.port}/    (Ctrl-C ends it)", flush=True)
    build_app(runs, arguments.host, arguments.port).run(host=arguments.host, port=arguments.port)


def build_app(runs: Path, host: str, port: int):
    """VisualDL's Flask application for the logs below `runs`, without telemetry."""
    from visualdl.server.app import create_app
    from visualdl.server.args import ParseArgs
    from visualdl.server.log import init_logger

    init_logger(0)  # no line for each file of the page
    os.chdir(runs)  # what VisualDL calls the runs are the paths below here
    app = create_app(ParseArgs(logdir=["."], host=host, port=port, telemetry=False))

    @app.after_request
    def keep_to_this_machine(response):
        response.headers["Content-Security-Policy"] = POLICY
        return response

    return app


def _check_address(host: str, port: int) -> None:
    try:
        socket.create_server((host, port)).close()
    except (OSError, OverflowError) as error:
        raise cli.UserError(f"--host {host} --port {port}: {error}; choose another --port") from None
