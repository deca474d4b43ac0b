"""Export a trained network as a program for Paddle's inference library, which runs without this project."""

import _checkout

if __name__ == "__main__":
    _checkout.run_command("export")
