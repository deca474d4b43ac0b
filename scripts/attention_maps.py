"""Where trained networks look: weight maps of their attention layers, and Grad-CAM of all arms."""

import _checkout

if __name__ == "__main__":
    _checkout.run_command("attention_maps")
