"""Accuracy under corruptions and adversarial attacks, and what attention changes in it."""

import _checkout

if __name__ == "__main__":
    _checkout.run_command("robustness")
