"""Measure a trained network on its eval images: accuracy, loss, confusion matrix, images per second."""

import _checkout

if __name__ == "__main__":
    _checkout.run_command("evaluate")
