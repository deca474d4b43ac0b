"""Compare runs without and with SimAM: statistics over the pairs' seeds; other runs side by side."""

import _checkout

if __name__ == "__main__":
    _checkout.run_command("compare")
