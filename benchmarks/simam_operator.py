"""SimAM alone, forward and backward: Paddle's operators, the compiled one, PyTorch's, and three clones.

The time of one application within a graph: (five in a row - one) / 4, so that what the call of
`grad` costs itself, a copy of the incoming gradient among it, is in none of them.
"""

from workers import groups, median, spread, torch_python

SHAPES = [(32, 256, 16, 16), (32, 256, 32, 32), (128, 48, 32, 32), (128, 192, 7, 7)]
# For the figure: as many numbers in maps of growing size.
MAP_SIZES = [1, 2, 4, 7, 8, 14, 16, 28, 32, 56, 64, 112, 128]
NUMBERS = 2**21
TURN_S = 0.1  # a measurement repeats the work until about this long


def measure(repeats: int) -> dict:
    sides = {
        "plain": ("paddle", {"implementation": "plain"}),
        "fused": ("paddle", {"implementation": "fused"}),
        "three clones": ("paddle", {"implementation": "clones"}),
        "PyTorch eager": ("torch", {"mode": "eager"}),
        "PyTorch compiled": ("torch", {"mode": "compile"}),
        "PyTorch three clones": ("torch", {"mode": "clones"}),
    }
    makers = {"paddle": {"program": "paddle_worker.py"}}
    if torch_python():
        makers["torch"] = {"program": "torch_worker.py", "python": torch_python()}
    with groups(**makers) as made:
        sides = {name: (made[group], case) for name, (group, case) in sides.items() if group in made}
        rows = [_row(shape, sides, repeats) for shape in SHAPES]
        sweep = [
            _row((max(NUMBERS // (64 * size * size), 1), 64, size, size), sides, max(repeats // 2, 2))
            for size in MAP_SIZES
        ]
    return {"title": "SimAM, forward and backward, ms", "rows": rows, "by_map_size": sweep}


def _row(shape, sides, repeats: int) -> dict:
    times = {name: [] for name in sides}
    steps = {name: _steps(*side, shape) for name, side in sides.items()}
    for _ in range(repeats):
        for name, side in sides.items():
            times[name].append(_milliseconds(*side, shape, steps[name]))
    row = {"shape": list(shape), "ms": {name: spread(values) for name, values in times.items()}}
    row["times_fused"] = {
        name: median([other / fused for other, fused in zip(values, times["fused"])]) for name, values in times.items()
    }
    return row


def _milliseconds(group, case: dict, shape, steps: int) -> float:
    if "clones" in case.values():
        return group.run(what="op", shape=shape, steps=steps, **case)["seconds"] / steps * 1e3
    long, short = (group.run(what="op", shape=shape, steps=steps, length=n, **case)["seconds"] for n in (5, 1))
    return (long - short) / 4 / steps * 1e3


def _steps(group, case: dict, shape) -> int:
    length = {} if "clones" in case.values() else {"length": 5}
    group.run(what="op", shape=shape, steps=1, **length, **case)
    return max(1, round(TURN_S / group.run(what="op", shape=shape, steps=1, **length, **case)["seconds"]))
