"""From benchmarks/results/*.json to the tables and the figure of benchmarks/README.md."""

import json
from pathlib import Path

HEAD = """# Benchmarks

`make bench` measures, side by side and in turns, and writes `results/*.json`, this page and the figure from them.
PyTorch is beside it when `BENCH_TORCH_PYTHON` names a Python that has torch:
`BENCH_TORCH_PYTHON=~/torch/bin/python make bench`.
A figure is the median of several turns, with the lowest and the highest in brackets.
"""
FIGURE = "results/simam_map_size.png"


def write_report(results: Path, page: Path) -> None:
    found = {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}
    parts = [HEAD]
    for name, section in SECTIONS.items():
        if name in found:
            parts += [f"## {found[name]['title']}", _measured_on(found[name]), section(found[name])]
    if "simam_operator" in found:
        draw_map_sizes(found["simam_operator"]["by_map_size"], page.parent / FIGURE)
    page.write_text("\n\n".join(part.strip() for part in parts) + "\n")


def _measured_on(result: dict) -> str:
    about = result["environment"]
    torch = f", PyTorch {about['torch']}" if "torch" in about else ""
    processors = f"{about['cpu_count']} processors ({about['cpu']})"
    turns, commit = result["repeats"], about["git_commit"][:7]
    return f"Paddle {about['paddle']}{torch}, {processors}, {turns} turns, commit {commit}."


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _spread(values: dict) -> str:
    if values["n"] == 1:
        return f"{_number(values['median'])} (one turn)"
    return f"{_number(values['median'])} ({_number(values['low'])} to {_number(values['high'])})"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _operator(result: dict) -> str:
    sides = list(result["rows"][0]["ms"])
    rows = [
        [str(tuple(row["shape"])), *(f"{_spread(row['ms'][side])}, {row['times_fused'][side]:.1f}x" for side in sides)]
        for row in result["rows"]
    ]
    return (
        table(["shape", *sides], rows)
        + "\n\nThe last number of a cell: how many times the fused operator's time (median of the turns' ratios).\n\n"
        + f"![SimAM's time against map size]({FIGURE})"
    )


def _training(result: dict) -> str:
    cases = [row["case"] for row in result["rows"]]
    sides = list(result["rows"][0]["images_per_s"])
    rows = [
        [side, *(_spread(row["images_per_s"][side]) if side in row["images_per_s"] else "" for row in result["rows"])]
        for side in sides
    ]
    return (
        table(["images/s", *cases], rows)
        + "\n\nThe processes of every side of several turns start anew each second turn: the same work takes one "
        "process longer than another, up to half as long again with TowerNet. What SimAM costs is measured below, with "
        "and without it in one process, in turns."
    )


def _cost(result: dict) -> str:
    rows = [
        [row["case"], _number(row["ms, off"]), _number(row["ms, on"]),
         "{:.1%} ({:.1%} to {:.1%})".format(*(row["cost"][key] for key in ("median", "low", "high"))),
         str(row["cost"]["n"])]
        for row in result["rows"]
    ]  # fmt: skip
    return table(["", "ms without", "ms with SimAM", "cost: median (95 % of the median)", "turns"], rows)


def _memory(result: dict) -> str:
    rows = result["rows"]
    lines = [[side, *(_spread(row["peak_mib"][side]) for row in rows)] for side in rows[0]["peak_mib"]]
    lines += [[name, *(_spread(row["ratios"][name]) for row in rows)] for name in rows[0]["ratios"]]
    return table(["", *(row["case"] for row in rows)], lines)


def _plain(result: dict) -> str:
    """Rows of flat values, as they are."""
    keys = list(dict.fromkeys(key for row in result["rows"] for key in row))

    def cell(value) -> str:
        if isinstance(value, dict) and "median" in value:
            return _spread(value)
        return _number(value) if isinstance(value, float) else str(value)

    return table(keys, [[cell(row[key]) if key in row else "" for key in keys] for row in result["rows"]])


SECTIONS = {
    "simam_operator": _operator,
    "training": _training,
    "cost": _cost,
    "memory": _memory,
    "processes": _plain,
    "loaders": _plain,
    "inference": _plain,
}


def draw_map_sizes(rows: list[dict], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for side in rows[0]["ms"]:
        axes.plot([row["shape"][2] for row in rows], [row["ms"][side]["median"] for row in rows], "o-", label=side)
    axes.set(
        xscale="log", yscale="log", xlabel="map size H = W (2 million numbers in all)",
        ylabel="forward + backward, ms", title="SimAM's time against map size",
    )  # fmt: skip
    powers = [1, 2, 4, 8, 16, 32, 64, 128]
    axes.set_xticks(powers, [str(power) for power in powers])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=120)
