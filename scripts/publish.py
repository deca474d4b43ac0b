"""Write a trained network as a folder to take away: weights, config, model card, and an ONNX file."""

import _checkout

if __name__ == "__main__":
    _checkout.run_command("publish")
