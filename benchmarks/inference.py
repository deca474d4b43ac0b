"""Inference on a CPU: Paddle eager, the engine of `evaluate.py --engine inference`, PyTorch eager; in turns.

The images are in memory, the logits come back as numpy.
"""

import json
import sys

from training import NETWORKS, OFF, ON
from workers import groups, spread, torch_python

SIDES = {
    "Paddle eager": ("paddle", "infer", {}),
    "inference engine": ("paddle", "engine", {}),
    "PyTorch eager": ("torch", "infer", {"mode": "eager"}),
}


def measure(repeats: int) -> dict:
    makers = {"paddle": {"program": "paddle_worker.py"}}
    if torch_python():
        makers["torch"] = {"program": "torch_worker.py", "python": torch_python()}
    with groups(**makers) as made:
        rows = [
            {"case": f"{title}, {words}", **_speeds({**network, **attention}, made, repeats)}
            for title, network in NETWORKS.items()
            for words, attention in (("SimAM", ON), ("without SimAM", OFF))
        ]
    return {"title": "Inference engines with synthetic images, images/s", "rows": rows}


def _speeds(case: dict, made: dict, repeats: int) -> dict:
    sides = {name: side for name, side in SIDES.items() if side[0] in made}
    speeds = {name: [] for name in sides}
    for _ in range(repeats):
        for name, (group, what, options) in sides.items():
            seconds = made[group].run(what=what, **case, **options)["seconds"]
            speeds[name].append(case["batch"] * case["steps"] / seconds)
    row = {name: spread(values) for name, values in speeds.items()}
    for other in [name for name in sides if name != "inference engine"]:
        # Each turn by itself: what else the machine does slows both sides of a turn.
        ratios = [ours / theirs for ours, theirs in zip(speeds["inference engine"], speeds[other])]
        row[f"engine / {other}"] = spread(ratios)
    return row


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 7), indent=2))
