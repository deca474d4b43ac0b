"""SimAM in PaddlePaddle: reproduce, question and extend two experiments on it."""

# Before paddle: 2.6 exports symbols of its own zlib, and unpacking gzip after it crashes the process.
import zlib  # noqa: F401

__version__ = "0.1.0"
