"""Convert an exported program to ONNX and compare the two; run by the interpreter of another environment.

onnx_converter.py PROGRAM WEIGHTS EXPECTED.npz TARGET.onnx: EXPECTED has `images` and the network's `logits`. It prints
JSON, and needs only the packages of requirements-onnx.txt.
"""

import json
import sys

# Older releases convert other operators, and pip falls back to one where this has no wheel.
VERSION = "2.1.0"


def main(program: str, weights: str, expected: str, target: str) -> None:
    from importlib.metadata import version

    import numpy as np
    import onnxruntime
    import paddle2onnx

    if version("paddle2onnx") != VERSION:
        sys.exit(f"paddle2onnx {version('paddle2onnx')} is there, {VERSION} is needed (Python 3.10 to 3.12 have it)")
    paddle2onnx.export(program, weights, save_file=target, optimize_tool="None")
    arrays = np.load(expected, allow_pickle=False)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: arrays["images"]})
    print(
        json.dumps(
            {
                "images": len(logits),
                "largest_difference": float(np.abs(logits - arrays["logits"]).max()),
                "same_classes": bool((logits.argmax(1) == arrays["logits"].argmax(1)).all()),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
