"""What SimAM costs: a network with it and without it in one process, in turns, the first of a turn changing.

The cost of a turn is 1 - off / on of its two times. Printed beside its median over the turns: the 95 % interval of that
median (percentiles of 10,000 bootstrap samples of the turns).
"""

import numpy as np
from scipy.stats import bootstrap
from training import OFF, ON, ORIGINALS
from workers import groups, median

# A turn of TowerNet takes several times as long as one of AlexNet, and several turns as many say as much.
TURNS_PER_REPEAT = {"TowerNet": 4, "AlexNet": 12}
WHAT = {"train": "training", "infer": "inference", "engine": "inference engine"}


def measure(repeats: int) -> dict:
    rows = []
    with groups(paddle={"program": "paddle_worker.py"}) as made:
        for title, network in ORIGINALS.items():
            for what, words in WHAT.items():
                case = {"what": what, **network, "steps": 1}
                rows.append(
                    {"case": f"{title}, {words}", **_cost(case, made["paddle"], repeats * TURNS_PER_REPEAT[title])}
                )
    return {"title": "What SimAM costs: 1 - time without / time with it", "rows": rows}


def _cost(case: dict, group, turns: int) -> dict:
    seconds = {"on": [], "off": []}
    for turn in range(turns):
        for switch, options in sorted({"on": ON, "off": OFF}.items(), reverse=bool(turn % 2)):
            seconds[switch].append(group.run(**case, **options)["seconds"])
    cost = 1 - np.array(seconds["off"]) / seconds["on"]
    low, high = bootstrap(
        [cost], np.median, method="percentile", n_resamples=10_000, random_state=0
    ).confidence_interval
    return {
        "ms, on": 1e3 * median(seconds["on"]),
        "ms, off": 1e3 * median(seconds["off"]),
        "cost": {"median": float(np.median(cost)), "low": float(low), "high": float(high), "n": turns},
    }
