"""Find or download, verify and unpack the data set of a config; print what it holds."""

import _checkout

if __name__ == "__main__":
    _checkout.run_command("prepare_data")
