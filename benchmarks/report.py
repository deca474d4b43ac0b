"""From benchmarks/results/*.json to the tables and the figure of benchmarks/README.md."""

import json
from pathlib import Path

HEAD = """# Benchmarks

`make bench` measures, side by side and in turns, and writes `results/*.json`, this page and the figure from them.
PyTorch is beside it when `BENCH_TORCH_PYTHON` names a Python that has torch:
`BENCH_TORCH_PYTHON=~/torch/bin/python make bench`.
A figure is the median of several turns, with the lowest and the highest in brackets. Beside the processor stand the
vector extensions that were used, since speeds depend on them: what depends on them most has a section for AVX-512 and
one for AVX2. `make bench ARGS="--avx2"` measures the latter on a processor that has AVX-512, with every library turned
down; `ARGS="--only training --networks VGG19"` some networks only, and keeps the results of the others.

3x3 convolutions with stride 1 and at least 32 channels go by Winograd's filtering since commit df77317. What was
measured at an earlier one was without it.
"""
FIGURE = "results/simam_map_size.png"


def write_report(results: Path, page: Path) -> None:
    found = {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}
    parts = [HEAD]
    for name, section in SECTIONS.items():
        if name in found:
            extensions = " (AVX2)" if name.endswith("_avx2") else ""
            parts += [f"## {found[name]['title']}{extensions}", _measured_on(found[name]), section(found[name])]
    if "simam_operator" in found:
        draw_map_sizes(found["simam_operator"]["by_map_size"], page.parent / FIGURE)
    page.write_text("\n\n".join(part.strip() for part in parts) + "\n")


def _measured_on(result: dict) -> str:
    about = result["environment"]
    torch = f", PyTorch {about['torch']}" if "torch" in about else ""
    extensions = f", {about['vector_extensions']}" if about.get("vector_extensions") else ""
    processors = f"{about['cpu_count']} processors ({about['cpu']}{extensions})"
    rows = [row for row in result["rows"] if "git_commit" in row] or [{**result, **about}]
    turns = " or ".join(map(str, sorted({row["repeats"] for row in rows})))
    commits = list(dict.fromkeys(row["git_commit"][:7] for row in rows))
    commit = f"commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}"
    return f"Paddle {about['paddle']}{torch}, {processors}, {turns} turns, {commit}."


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


# Head of a column: the side that is in it.
TRAINING = {
    "this project": "this project", "PyTorch eager": "PyTorch eager", "channels-last": "PyTorch channels-last",
    "compiled": "PyTorch compiled",
}  # fmt: skip
INFERENCE = {"this project": "this project", "its engine": "this project's engine", **TRAINING}
SLOW = {"Paddle as it comes": "Paddle as it comes", "this project without its operators":
        "this project without its operators", "this project": "this project"}  # fmt: skip


def _training(result: dict) -> str:
    rows = result["rows"]
    slow = [row for row in rows if "Paddle as it comes" in row["images_per_s"]]
    parts = [
        "The last column: this project's fastest side over PyTorch's fastest, the median of the turns' ratios with the "
        "lowest and the highest. Training and inference take turns in the same processes, and the sides one after the "
        "other within a turn. The processes start anew each second turn: the same work takes one process longer than "
        "another, up to half as long again with TowerNet. That of compiled PyTorch stays, since compiling takes "
        "longer than all the turns.",
        "### Training, images/s",
        _speeds([row for row in rows if row["what"] == "training"], TRAINING),
        "### Inference, images/s",
        _speeds([row for row in rows if row["what"] == "inference"], INFERENCE),
    ]
    if slow:
        head = ["images/s", *SLOW]
        lines = [[row["case"], *(_side(row, side) for side in SLOW.values())] for row in slow]
        parts += ["### Without compiled operators, and without this project's settings", table(head, lines)]
    return "\n\n".join(parts) + (
        "\n\nWhat SimAM costs is measured below, with and without it in one process, in turns."
    )


def _speeds(rows: list[dict], sides: dict[str, str]) -> str:
    lines = [
        [f"{row['network']} {row['switch']}, {row['size']} px, batch {row['batch']}",
         *(_side(row, side) for side in sides.values()), _spread(row["ratio"]) if "ratio" in row else ""]
        for row in rows
    ]  # fmt: skip
    return table(["", *sides, "this project / PyTorch"], lines)


def _side(row: dict, side: str) -> str:
    return _spread(row["images_per_s"][side]) if side in row["images_per_s"] else ""


def _limits(result: dict) -> str:
    rows = [
        [row["case"], _number(row["GFLOP of an image"]), _spread(row["GFLOP/s"]),
         _spread({key: value if key == "n" else 100 * value for key, value in row["of the matrix product's"].items()})]
        for row in result["rows"]
    ]  # fmt: skip
    return (
        table(["", "GFLOP of an image", "GFLOP/s", "% of the matrix product's"], rows)
        + f"\n\nThe matrix product of 2048 x 2048: {_spread(result['matrix_product'])} GFLOP/s. Only convolutions and "
        "linear layers are counted, so that what is missing to 100 % is the time of all else, norms, ReLUs, pools and "
        "the optimizer, and what these layers lose themselves: copies of their input (im2col), and small matrices. "
        "A 3x3 convolution counts nine multiplications a pixel and pair of channels; by Winograd's filtering it does "
        "four, so that more than 100 % can be reached."
    )


def _ablation(result: dict) -> str:
    rows, lines = result["rows"], result["lines"]
    operators = list(dict.fromkeys(operator for row in rows for operator in row["without"]))
    cells = [
        [operator, *(_spread(row["without"][operator]) if operator in row["without"] else "" for row in rows),
         *_lines(lines.get(operator, {}))]
        for operator in operators
    ]  # fmt: skip
    cells += [[other, *([""] * len(rows)), *_lines(count)] for other, count in lines.items() if other not in operators]
    cells.append(["images/s with all operators", *(_spread(row["images_per_s"]) for row in rows), "", ""])
    return (
        table(["switched off", *(row["case"] for row in rows), *LANGUAGES], cells)
        + "\n\nSpeed without the operator / speed with all of them: Paddle's own layers compute in its place. Below 1 "
        "the operator is worth having. Last, its lines of code, without comments and blank lines."
    )


LANGUAGES = ("C++", "Python")


def _lines(count: dict[str, int]) -> list[str]:
    return [str(count.get(language, 0)) for language in LANGUAGES]


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


def _processes(result: dict) -> str:
    return _plain(result) + (
        "\n\nUntil commit 9c15396 processes averaged their gradients through memory that they shared. There two "
        "processes of one thread each trained TowerNet with SimAM 0.99 (0.97 to 1.01) times and AlexNet with SimAM "
        "1.03 (1.01 to 1.04) times as fast as through gloo, `DataParallel`'s own way (Paddle 3.3.1, 2 processors "
        "(AMD EPYC, AVX-512), 6 turns; "
        "results/exchange.json); what gains less than 10 % is not kept, so it went."
    )


SECTIONS = {
    "simam_operator": _operator,
    "training": _training,
    "training_avx2": _training,
    "limits": _limits,
    "limits_avx2": _limits,
    "ablation": _ablation,
    "ablation_avx2": _ablation,
    "cost": _cost,
    "memory": _memory,
    "processes": _processes,
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
