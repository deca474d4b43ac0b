"""SimAM and other attention modules in PaddlePaddle: reproduce, question and extend what their papers claim.

The parts that users of the library need are here by name, imported when they are asked for:

    from simam_repro import SimAM, attention_layer    # layers for any network: SimAM(), attention_layer("se", 64)
    from simam_repro import fit, load_config          # the experiments
"""

# Before paddle: 2.6 exports symbols of its own zlib, and unpacking gzip after it crashes the process.
import zlib  # noqa: F401
from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "SimAM": "simam_repro.models", "simam": "simam_repro.models", "fit": "simam_repro.training",
    "attention_layer": "simam_repro.attention", "load_config": "simam_repro.config",
    "build_model": "simam_repro.models",
}  # fmt: skip
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(_HOMES[name]), name)
