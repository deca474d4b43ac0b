"""Loss and accuracy of several runs in one figure."""

import _checkout

if __name__ == "__main__":
    _checkout.run_command("plot_curves")
