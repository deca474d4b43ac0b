"""No attention: the plain network."""

from typing import Literal

from simam_repro.attention.registry import register
from simam_repro.config import AttentionConfig


class NoneConfig(AttentionConfig):
    name: Literal["none"] = "none"


register(NoneConfig, None, "none")
