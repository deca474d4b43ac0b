"""Compare arms, runs that differ in their attention only: statistics over their seeds; other runs side by side."""

import _checkout

if __name__ == "__main__":
    _checkout.run_command("compare")
