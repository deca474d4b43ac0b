"""Class and probability for image files, or a grid of eval images with predicted and true class."""

import _checkout

if __name__ == "__main__":
    _checkout.run_command("predict")
