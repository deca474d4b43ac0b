"""Paddle's names for the files of this package, imported when one is first used.

A config names an attention module, and reading one (`--print-config`, the start of a sweep, a wrong key) must not wait
seconds for Paddle, which also takes SIGTERM for itself and wants its settings before.
"""

import importlib


class _Lazy:
    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute):
        return getattr(importlib.import_module(self._name), attribute)


paddle = _Lazy("paddle")
nn = _Lazy("paddle.nn")
F = _Lazy("paddle.nn.functional")
ops = _Lazy("simam_repro.ops")
