"""Where a trained network with SimAM looks: weight maps of its SimAM layers, and Grad-CAM without and with SimAM."""

import _checkout

if __name__ == "__main__":
    _checkout.run_command("attention_maps")
