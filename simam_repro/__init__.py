"""SimAM in PaddlePaddle: reproduce, question and extend two experiments on it."""

__version__ = "0.1.0"
