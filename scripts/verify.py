"""Whether a run is in line with the reference runs of its recipe in results/."""

import _checkout

if __name__ == "__main__":
    _checkout.run_command("verify")
