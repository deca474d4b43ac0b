"""The demo: TowerNet without and with attention on the embedded data set, trained at the same time."""

import _checkout

if __name__ == "__main__":
    _checkout.run_command("demo")
