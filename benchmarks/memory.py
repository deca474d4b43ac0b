"""Peak memory of a training process: what SimAM adds, and what the allocator settings cost."""

from training import NETWORKS, OFF, ON
from workers import Group, median

SETTINGS = {"with the allocator settings": {}, "without": {"GLIBC_TUNABLES": ""}}


def measure(repeats: int) -> dict:
    rows = []
    for title, network in NETWORKS.items():
        row = {"case": f"{title}, training", "peak_mib": {}}
        for name, environment in SETTINGS.items():
            for switch, options in (("SimAM on", ON), ("SimAM off", OFF)):
                peaks = [_peak(network, options, environment) for _ in range(min(repeats, 3))]
                row["peak_mib"][f"{switch}, {name}"] = median(peaks)
        rows.append(row)
    return {"title": "Peak memory (resident, MiB) of a training process", "rows": rows}


def _peak(network: dict, options: dict, environment: dict) -> float:
    group = Group("paddle_worker.py", environment=environment)
    try:
        return group.run(what="train", **{**network, "steps": 5}, **options)["peak_mib"]
    finally:
        group.close()
