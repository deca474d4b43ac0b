"""Whole training steps and inference: Paddle as it comes, this project, PyTorch; one and two processes.

A training step is forward, loss, backward, optimizer, and the step's loss, cross-entropy and hits as numbers;
on Paddle's side `paddle.Model.train_batch`. Images are in memory: what loading costs is loaders.py's to say.
"""

from workers import spread, torch_python, turns

NETWORKS = {
    "TowerNet": {"network": "towernet", "size": 256, "batch": 32, "steps": 4},
    "AlexNet": {"network": "alexnet", "size": 128, "batch": 128, "steps": 8},
}
ON, OFF = {"attention": "simam"}, {"attention": "none"}
# What nobody would wait for twice; one turn of each.
SLOW = ("Paddle as it comes, SimAM", "Paddle as it comes, without SimAM", "this project without its operators, SimAM")
ONE_THREAD = {"FLAGS_paddle_num_threads": "1", "MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def measure(repeats: int) -> dict:
    paddle, torch = {"program": "paddle_worker.py"}, {"program": "torch_worker.py", "python": torch_python()}
    two = {"processes": 2, "environment": ONE_THREAD}
    stock = {**paddle, "environment": {"STOCK": "1"}}
    makers = {"stock": stock, "ours": paddle, "ours, 2 processes": {**paddle, **two}}
    if torch_python():
        makers |= {"torch": torch, "torch, 2 processes": {**torch, **two}}
    cases = {
        f"{title}, {name}": {"what": what, **network}
        for title, network in NETWORKS.items()
        for what, name in (("train", "training"), ("infer", "inference"))
    }
    speeds: dict[str, dict[str, list[float]]] = {title: {} for title in cases}
    for turn, made in turns(repeats, **makers):
        for title, case in cases.items():
            for side, (group, options) in _sides(case).items():
                if group in made and not (turn and side in SLOW):
                    seconds = made[group].run(**case, **options)["seconds"]
                    speeds[title].setdefault(side, []).append(case["batch"] * case["steps"] / seconds)
    rows = [
        {"case": title, "images_per_s": {side: spread(values) for side, values in sides.items()}}
        for title, sides in speeds.items()
    ]
    return {"title": "Training and inference with synthetic images, images/s", "rows": rows}


def _sides(case: dict) -> dict:
    """Name: (group, options of a case)."""
    sides = {
        "Paddle as it comes, SimAM": ("stock", {**ON, "fused": False}),
        "Paddle as it comes, without SimAM": ("stock", {**OFF, "fused": False}),
        "this project without its operators, SimAM": ("ours", {**ON, "fused": False}),
        "this project, SimAM": ("ours", ON),
        "this project, without SimAM": ("ours", OFF),
        "this project, SimAM, 2 processes": ("ours, 2 processes", ON),
        "PyTorch eager, SimAM": ("torch", {**ON, "mode": "eager"}),
        "PyTorch eager, without SimAM": ("torch", {**OFF, "mode": "eager"}),
        "PyTorch eager, SimAM, 2 processes": ("torch, 2 processes", {**ON, "mode": "eager"}),
        "PyTorch channels-last, SimAM": ("torch", {**ON, "mode": "channels_last"}),
        "PyTorch compiled, SimAM": ("torch", {**ON, "mode": "compile"}),
    }
    if case["what"] == "infer":  # processes do not help each other there
        sides = {name: side for name, side in sides.items() if "2 processes" not in name}
    return sides
