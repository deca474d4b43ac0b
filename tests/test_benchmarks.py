"""The benchmarks: what they make of seconds, and the tables; one small case of a worker. Nothing here is timed."""

import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
MODULES = ("ablation", "bench", "limits", "report", "training", "workers")
ENVIRONMENT = {
    "paddle": "3.3.1", "torch": "2.13", "cpu_count": 2, "cpu": "a CPU", "vector_extensions": "AVX-512",
    "git_commit": "0123456789",
}  # fmt: skip


@pytest.fixture
def benchmarks(monkeypatch):
    """A function that imports one of them by its name; the names are free again afterwards."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("BENCH_TORCH_PYTHON", sys.executable)
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield __import__
    for name in MODULES:
        sys.modules.pop(name, None)


class MadeUp:
    """A group whose cases take what `seconds` says; the second turn's twice as long."""

    def __init__(self, seconds):
        self.seconds, self.cases, self.turn = seconds, [], 0

    def run(self, **case):
        self.cases.append(case)
        return {"seconds": self.seconds(case) * case["steps"] * (1 + self.turn)}


def made_up(monkeypatch, module, seconds):
    """Let a benchmark have one MadeUp for all of its groups."""
    group = MadeUp(seconds)

    @contextmanager
    def groups(**makers):
        group.turn = 0
        yield dict.fromkeys(makers, group)

    def turns(repeats, **makers):
        for group.turn in range(repeats):
            yield group.turn, dict.fromkeys(makers, group)

    for name, stub in {"groups": groups, "turns": turns}.items():
        if hasattr(module, name):
            monkeypatch.setattr(module, name, stub)
    return group


def page_of(benchmarks, tmp_path, results: dict) -> str:
    from simam_repro.storage import write_json

    for name, result in results.items():
        write_json(tmp_path / f"{name}.json", {"repeats": 2, "environment": ENVIRONMENT, **result})
    benchmarks("report").write_report(tmp_path, tmp_path / "README.md")
    return (tmp_path / "README.md").read_text()


def seconds_of_training(case) -> float:
    """Ours 1 s, the engine 1/2 s, PyTorch 2 s, compiled 4 s."""
    return {"eager": 2, "channels_last": 2, "compile": 4}.get(case.get("mode"), 0.5 if case["what"] == "engine" else 1)


def test_training_compares_the_fastest_sides(benchmarks, monkeypatch):
    training = benchmarks("training")
    made_up(monkeypatch, training, seconds_of_training)
    rows = {row["case"]: row for row in training.measure(2, "VGG19")["rows"]}
    assert list(rows) == [
        f"VGG19 {switch}, {what}" for switch in ("with SimAM", "without SimAM") for what in ("training", "inference")
    ]
    trained, inferred = rows["VGG19 with SimAM, training"], rows["VGG19 with SimAM, inference"]
    assert trained["ratio"] == {"median": 2, "low": 2, "high": 2, "n": 2}
    assert inferred["ratio"]["median"] == 4  # the engine over eager
    # 32 images in 1 s, in the second turn in 2 s.
    assert trained["images_per_s"]["this project"] == {"median": 24, "low": 16, "high": 32, "n": 2}
    assert "this project's engine" not in trained["images_per_s"]
    assert "Paddle as it comes" in training.measure(2, "AlexNet")["rows"][0]["images_per_s"]


def test_part_results_join_those_of_other_networks(benchmarks, monkeypatch):
    bench, training = benchmarks("bench"), benchmarks("training")
    made_up(monkeypatch, training, seconds_of_training)
    vgg, tower = (training.measure(2, title) for title in ("VGG19", "TowerNet"))
    whole = bench.merged(bench.merged({}, vgg), tower)
    assert [row["network"] for row in whole["rows"]] == ["TowerNet"] * 4 + ["VGG19"] * 4
    anew = training.measure(2, "VGG19")
    assert bench.merged(whole, anew)["rows"][4:] == anew["rows"]


@pytest.mark.parametrize("extensions, file", [
    ("AVX-512", "limits.json"), ("AVX2", "limits_avx2.json"), ("AVX2 (AVX-512 turned off)", "limits_avx2.json"),
])  # fmt: skip
def test_results_of_avx512_and_avx2_are_kept_apart(benchmarks, monkeypatch, tmp_path, extensions, file):
    bench = benchmarks("bench")
    for name, value in {"RESULTS": tmp_path, "vector_extensions": lambda: extensions,
                        "_measured": lambda *_: {"rows": []}}.items():  # fmt: skip
        monkeypatch.setattr(bench, name, value)
    bench._run("limits", 2, [])
    assert [path.name for path in tmp_path.iterdir()] == [file]


def test_ablation_divides_each_turn_by_its_own(benchmarks, monkeypatch):
    ablation = benchmarks("ablation")
    made_up(monkeypatch, ablation, lambda case: 4 if case["without"] == "convolution" else 1)
    (row,) = ablation.measure(2, "AlexNet")["rows"]
    assert row["without"]["convolution"]["median"] == 0.25 and row["without"]["SimAM"]["median"] == 1


def test_limits_are_of_the_product_in_the_same_turn(benchmarks, monkeypatch, tmp_path):
    """AlexNet's convolutions and linear layers, forward, from the shapes that the paper gives."""
    limits = benchmarks("limits")
    product = 2 * 2048**3 / 1e9
    made_up(monkeypatch, limits, lambda case: 1)
    monkeypatch.setattr(limits, "NETWORKS", {"AlexNet": limits.NETWORKS["AlexNet"]})
    result = limits.measure(2)
    first = 2 * 3 * 48 * 11**2 * 32**2
    others = 2 * (48 * 128 * 5**2 * 15**2 + (2 * 128 * 192 + 192**2) * 3**2 * 7**2)
    linear = 2 * (9 * 128 * 2048 + 2048**2 + 2048 * 16)
    expected = (2 * first + 3 * (others + linear)) / 1e9
    (row,) = result["rows"]
    assert row["GFLOP of an image"] == pytest.approx(expected)
    assert row["GFLOP/s"]["high"] == pytest.approx(128 * expected) and result["matrix_product"]["high"] == product
    assert row["of the matrix product's"]["low"] == pytest.approx(128 * expected / product)  # both halve
    page = page_of(benchmarks, tmp_path, {"limits": result})
    assert "| AlexNet | 0.546 | " in page


def test_lines_of_code_are_those_of_the_operator(benchmarks, tmp_path):
    (tmp_path / "pooling.h").write_text("// a comment\nint a;\n\nint b() {\n\n  return 1;\n}\n")
    (tmp_path / "ops.cc").write_text(
        "namespace {\n\nint conv_forward(int x) { return x; }\n\nPD_BUILD_OP(bias_fused)\n"
    )
    (tmp_path / "fused.py").write_text('@decorator\ndef fused_simam(x):\n    """Doc."""\n    return x\n')
    lines = {title: count for title, count in benchmarks("ablation").lines_of_code(tmp_path).items() if count}
    assert lines == {
        "max-pooling": {"C++": 4}, "convolution": {"C++": 1}, "bias and ReLU epilogue": {"C++": 1},
        "SimAM": {"Python": 4}, benchmarks("ablation").SHARED: {"C++": 1},
    }  # fmt: skip


def test_every_operator_is_switched_off_and_on_again(benchmarks, monkeypatch):
    ablation = benchmarks("ablation")
    for title, operator in ablation.OPERATORS.items():
        functions = [ablation.resolve_name(f"simam_repro.ops.{name}") for name in operator.off]
        with ablation.switched_off(title):
            assert all(ablation.resolve_name(f"simam_repro.ops.{name}") not in functions for name in operator.off)
        assert [ablation.resolve_name(f"simam_repro.ops.{name}") for name in operator.off] == functions
        assert sum(ablation.lines_of_code()[title].values()) > 50


def test_tables(benchmarks, monkeypatch, tmp_path):
    training, ablation = benchmarks("training"), benchmarks("ablation")
    made_up(monkeypatch, training, seconds_of_training)
    made_up(monkeypatch, ablation, lambda case: 4 if case["without"] == "convolution" else 1)
    page = page_of(benchmarks, tmp_path, {
        "training": training.measure(2, "TowerNet"), "training_avx2": training.measure(2, "VGG19"),
        "ablation": ablation.measure(2, "AlexNet"),
    })  # fmt: skip
    assert "2 processors (a CPU, AVX-512), 2 turns, commit 0123456." in page
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("|")]
    assert ["TowerNet with SimAM, 256 px, batch 32", "24 (16 to 32)", "48 (32 to 64)", "12 (8 to 16)", "12 (8 to 16)",
            "6 (4 to 8)", "4 (4 to 4)"] in cells  # fmt: skip
    (convolution,) = (row for row in cells if row[0] == "convolution")
    assert convolution[1] == "0.25 (0.25 to 0.25)" and all(int(count) > 30 for count in convolution[2:])


def test_measured_where_and_when(benchmarks):
    rows = [{"repeats": 3, "git_commit": "a" * 40}, {"repeats": 2, "git_commit": "b" * 40}]
    line = benchmarks("report")._measured_on({"repeats": 3, "environment": ENVIRONMENT, "rows": rows})
    assert line.endswith("2 or 3 turns, commits aaaaaaa, bbbbbbb.")


def test_a_worker_trains_and_infers(benchmarks):
    """With an operator switched off, too."""
    workers = benchmarks("workers")
    case = {"network": "resnet20", "size": 8, "batch": 2, "attention": "simam", "steps": 1, "warm_up": 0}
    with workers.groups(one={"program": "paddle_worker.py"}) as made:
        for options in ({"what": "train"}, {"what": "train", "without": "convolution"}, {"what": "infer"}):
            assert made["one"].run(**case, **options)["seconds"] > 0
