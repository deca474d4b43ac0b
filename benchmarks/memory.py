"""Peak memory of a training process: what SimAM adds, and what the allocator settings cost."""

from training import OFF, ON, ORIGINALS
from workers import groups, spread

SETTINGS = {"with the allocator settings": {}, "without": {"GLIBC_TUNABLES": ""}}
SWITCHES = {"SimAM on": ON, "SimAM off": OFF}
# Which peak over which, each of the same turn.
RATIOS = {
    "on / off, with the settings": ("SimAM on, with the allocator settings", "SimAM off, with the allocator settings"),
    "with / without, SimAM on": ("SimAM on, with the allocator settings", "SimAM on, without"),
    "with / without, SimAM off": ("SimAM off, with the allocator settings", "SimAM off, without"),
}


def measure(repeats: int) -> dict:
    """Every peak is a process of its own, whose addresses differ by chance, and with them the gaps in its heap."""
    rows = []
    for title, network in ORIGINALS.items():
        peaks = {f"{switch}, {name}": [] for name in SETTINGS for switch in SWITCHES}
        for _ in range(repeats):
            for name, environment in SETTINGS.items():
                for switch, options in SWITCHES.items():
                    peaks[f"{switch}, {name}"].append(_peak(network, options, environment))
        rows.append(
            {
                "case": f"{title}, training",
                "peak_mib": {side: spread(values) for side, values in peaks.items()},
                "ratios": {
                    name: spread([a / b for a, b in zip(peaks[over], peaks[under])])
                    for name, (over, under) in RATIOS.items()
                },
            }
        )
    return {"title": "Peak memory (resident, MiB) of a training process", "rows": rows}


def _peak(network: dict, options: dict, environment: dict) -> float:
    with groups(one={"program": "paddle_worker.py", "environment": environment}) as made:
        return made["one"].run(what="train", **{**network, "steps": 5}, **options)["peak_mib"]
