"""Inference on a CPU: Paddle eager, the engine of `evaluate.py --engine inference`, PyTorch eager; in turns.

The images are in memory, the logits come back as numpy.
"""

import json
import sys

from training import OFF, ON, ORIGINALS
from workers import spread, torch_python, turns

SIDES = {
    "Paddle eager": ("paddle", "infer", {}),
    "inference engine": ("paddle", "engine", {}),
    "PyTorch eager": ("torch", "infer", {"mode": "eager"}),
}


def measure(repeats: int) -> dict:
    makers = {"paddle": {"program": "paddle_worker.py"}}
    if torch_python():
        makers["torch"] = {"program": "torch_worker.py", "python": torch_python()}
    cases = {
        f"{title}, {words}": {**network, **attention}
        for title, network in ORIGINALS.items()
        for words, attention in (("SimAM", ON), ("without SimAM", OFF))
    }
    speeds = {title: {name: [] for name, (group, *_) in SIDES.items() if group in makers} for title in cases}
    for _, made in turns(repeats, **makers):
        for title, case in cases.items():
            for name, values in speeds[title].items():
                group, what, options = SIDES[name]
                seconds = made[group].run(what=what, **case, **options)["seconds"]
                values.append(case["batch"] * case["steps"] / seconds)
    rows = [{"case": title, **_row(values)} for title, values in speeds.items()]
    return {"title": "Inference engines with synthetic images, images/s", "rows": rows}


def _row(speeds: dict[str, list[float]]) -> dict:
    row = {name: spread(values) for name, values in speeds.items()}
    for other in [name for name in speeds if name != "inference engine"]:
        # Each turn by itself: what else the machine does slows both sides of a turn.
        ratios = [ours / theirs for ours, theirs in zip(speeds["inference engine"], speeds[other])]
        row[f"engine / {other}"] = spread(ratios)
    return row


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 7), indent=2))
