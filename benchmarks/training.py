"""Whole training steps and inference of the six networks, with SimAM and without: this project and PyTorch, and for two
of them Paddle as it comes.

A training step is forward, loss, backward, optimizer, and the step's loss, cross-entropy and hits as numbers;
on Paddle's side `paddle.Model.train_batch`. Images are in memory: what loading costs is loaders.py's to say.
"""

from workers import groups, spread, torch_python, turns

# warm_up: calls of each side, one or three more before it is measured; fewer where they are long.
NETWORKS = {
    "TowerNet": {"network": "towernet", "size": 256, "batch": 32, "warm_up": 4},
    "AlexNet": {"network": "alexnet", "size": 128, "batch": 128, "warm_up": 5},
    "ResNet50": {"network": "resnet50", "size": 128, "batch": 32, "warm_up": 3},
    "MobileNetV2": {"network": "mobilenet_v2", "size": 128, "batch": 32, "warm_up": 3},
    "VGG19": {"network": "vgg19", "size": 64, "batch": 32, "warm_up": 2},
    "ResNet-20": {"network": "resnet20", "size": 32, "batch": 128, "warm_up": 4},
}
# The networks of the original experiments, and the steps of a measurement: what the other benchmarks run.
ORIGINALS = {"TowerNet": {**NETWORKS["TowerNet"], "steps": 4}, "AlexNet": {**NETWORKS["AlexNet"], "steps": 8}}
ON, OFF = {"attention": "simam"}, {"attention": "none"}
SWITCHES = {"with SimAM": ON, "without SimAM": OFF}
WHAT = {"train": "training", "infer": "inference"}

PADDLE, TORCH = {"program": "paddle_worker.py"}, {"program": "torch_worker.py", "python": torch_python()}
# Side: (group, options of a case).
SIDES = {
    "this project": ("ours", {}),
    "this project's engine": ("ours", {"what": "engine"}),
    "PyTorch eager": ("torch", {"mode": "eager"}),
    "PyTorch channels-last": ("torch", {"mode": "channels_last"}),
    "PyTorch compiled": ("compiled", {"mode": "compile"}),
}
# What nobody would wait for twice: one turn, of the originals.
SLOW = {
    "Paddle as it comes": ("stock", {"fused": False}),
    "this project without its operators": ("ours", {"fused": False}),
}
MEASUREMENT_S = 0.8


def measure(repeats: int, title: str) -> dict:
    """The rows of one network."""
    rows = []
    for switch, attention in SWITCHES.items():
        case = {**NETWORKS[title], **attention}
        speeds = _speeds(case, repeats)
        slow = _slow_speeds(case) if title in ORIGINALS else {}
        for what, word in WHAT.items():
            sides = {side: spread(values) for side, values in {**speeds[what], **slow.get(what, {})}.items()}
            row = {"case": f"{title} {switch}, {word}", "network": title, "switch": switch, "what": word}
            row |= {"size": case["size"], "batch": case["batch"], "images_per_s": sides}
            if any(side.startswith("PyTorch") for side in sides):
                row["ratio"] = ratio(speeds[what])
            rows.append(row)
    return {"title": "Training and inference with synthetic images, images/s", "rows": rows}


def _speeds(case: dict, repeats: int) -> dict:
    """{what: {side: images/s of each turn}}. Compiling takes longer than all the rest, so that its process stays."""
    speeds = {what: {} for what in WHAT}
    steps: dict[tuple, int] = {}
    makers = {"ours": PADDLE, **({"torch": TORCH} if torch_python() else {})}
    with groups(**({"compiled": TORCH} if torch_python() else {})) as lasting:
        for _, made in turns(repeats, **makers):
            for what in WHAT:
                for side, (name, options) in SIDES.items():
                    group = {**made, **lasting}.get(name)
                    if group is None or (what == "train" and "what" in options):
                        continue
                    one = {"what": what, **case, **options}
                    if (what, side) not in steps:
                        seconds = group.run(**one, steps=1)["seconds"]
                        steps[what, side] = max(1, round(MEASUREMENT_S / seconds))
                    speeds[what].setdefault(side, []).append(_images_per_s(group, one, steps[what, side]))
    return speeds


def _slow_speeds(case: dict) -> dict:
    with groups(stock={**PADDLE, "environment": {"STOCK": "1"}}, ours=PADDLE) as made:
        return {
            what: {
                side: [_images_per_s(made[name], {"what": what, **case, **options, "warm_up": 1}, 1)]
                for side, (name, options) in SLOW.items()
            }
            for what in WHAT
        }


def _images_per_s(group, case: dict, steps: int) -> float:
    return case["batch"] * steps / group.run(**case, steps=steps)["seconds"]


def ratio(speeds: dict[str, list[float]]) -> dict:
    """This project's fastest side (by its median) over PyTorch's fastest, turn by turn."""
    ours, theirs = (
        max(
            (values for side, values in speeds.items() if side.startswith(whose)), key=lambda one: spread(one)["median"]
        )
        for whose in ("this project", "PyTorch")
    )
    return spread([mine / other for mine, other in zip(ours, theirs)])
