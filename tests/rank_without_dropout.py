"""simam_repro/cli/rank.py with networks that have no dropout, whose draws differ from rank to rank."""

import importlib
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def without_dropout(build):
    from paddle import nn

    def build_model(*arguments):
        network = build(*arguments)
        for layer in network.sublayers():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        return network

    return build_model


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    fit = importlib.import_module("simam_repro.training.fit")
    fit.build_model = without_dropout(fit.build_model)
    runpy.run_path(str(ROOT / "simam_repro" / "cli" / "rank.py"), run_name="__main__")
