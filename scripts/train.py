"""Train one experiment into a run folder: curves, checkpoints, predictions, result.json."""

import _checkout

if __name__ == "__main__":
    _checkout.run_command("train")
