"""Run a sweep: configs x seeds, each in a process of train.py; at the end, the comparison."""

import _checkout

if __name__ == "__main__":
    _checkout.run_command("sweep")
