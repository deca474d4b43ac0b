"""simam_repro/cli/rank.py with networks that have no dropout, whose draws differ from rank to rank.

WITHOUT_MEMORY names the rank that cannot share memory, if any: gradients must go another way then, and only then.
"""

import importlib
import os
import runpy
import sys
import types
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


def not_allowed(*arguments):
    raise PermissionError


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    fit = importlib.import_module("simam_repro.training.fit")
    fit.build_model = without_dropout(fit.build_model)
    exchange = importlib.import_module("simam_repro.training.exchange")
    import paddle

    find_tensor = paddle.DataParallel._find_tensor
    exchanges, exchange_once = [], exchange.GradientExchange.__call__
    exchange.GradientExchange.__call__ = lambda self: exchanges.append(exchange_once(self))
    synchronised = []  # DataParallel asks this where it is going to average
    paddle.DataParallel._find_tensor = lambda self, outputs: synchronised.append(1) or find_tensor(self, outputs)
    lacking = os.environ.get("WITHOUT_MEMORY")
    if os.environ["PADDLE_TRAINER_ID"] == lacking:
        exchange.mmap = types.SimpleNamespace(mmap=not_allowed)  # its own: the ranks' meeting has a file
    runpy.run_path(str(ROOT / "simam_repro" / "cli" / "rank.py"), run_name="__main__")
    assert bool(exchanges) == (lacking is None) == (not synchronised)
