"""Signal propagation through the networks that a sweep begins with: RMS of activations and gradients, the loss."""

import _checkout

if __name__ == "__main__":
    _checkout.run_command("signal_propagation")
