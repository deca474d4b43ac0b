"""The layers of a config's network with parameters, FLOPs and memory; needs no data."""

import _checkout

if __name__ == "__main__":
    _checkout.run_command("summary")
