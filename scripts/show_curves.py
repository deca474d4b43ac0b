"""Serve the curves, figures and configs of runs as a page for the browser, with VisualDL."""

import _checkout

if __name__ == "__main__":
    _checkout.run_command("show_curves")
