"""Networks and the attention that goes into them."""

from simam_repro.attention.simam import SimAM, simam
from simam_repro.models.attention import attention_layers
from simam_repro.models.build import build_model, count_parameters
from simam_repro.models.predict import predict_logits
from simam_repro.models.summary import Summary, named_units, summarise
from simam_repro.models.weights import start_from, weights_file

__all__ = [
    "SimAM", "Summary", "attention_layers", "build_model", "count_parameters", "named_units",
    "predict_logits", "simam", "start_from", "summarise", "weights_file",
]  # fmt: skip
