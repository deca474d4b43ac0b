"""Look at a data set: one image of each class, and one image under its augmentation."""

import _checkout

if __name__ == "__main__":
    _checkout.run_command("show_data")
