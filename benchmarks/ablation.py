"""What each compiled operator is worth: training with SimAM while Paddle computes in the place of one of them.

One process for each network, in turns: all operators, then each switched off. Lines of code are counted beside it.
"""

import re
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Callable, NamedTuple
from unittest import mock

from training import NETWORKS, ON, PADDLE
from workers import groups, spread

OPS = Path(__file__).resolve().parents[1] / "simam_repro" / "ops"
MEASUREMENT_S = 0.8
SHARED = "shared by all: loading, building, checks, chains"


# What takes the place of a function of simam_repro.ops, made from the function.
def never(_) -> Callable:
    return lambda *_, **__: False


def not_dense(convolves) -> Callable:
    def only_depthwise(x, weight, stride, padding, groups: int = 1):
        return groups > 1 and convolves(x, weight, stride, padding, groups)

    return only_depthwise


def not_depthwise(convolves) -> Callable:
    def only_dense(x, weight, stride, padding, groups: int = 1):
        return groups == 1 and convolves(x, weight, stride, padding, groups)

    return only_dense


def by_paddle(_) -> Callable:
    def add_bias(x, bias, relu: bool = False):
        from paddle.nn import functional as F

        y = x + bias.reshape([1, -1, 1, 1])
        return F.relu(y) if relu else y

    return add_bias


class Operator(NamedTuple):
    """One to switch off.

    Attributes:
        off: what takes the place of which name, below simam_repro.ops; most are predicates that ask whether the
            operator can take a tensor.
        files: a regular expression for the files that are the operator's alone.
        names: one for its functions in the others. Both are searched for; what several match is the first one's.
    """

    off: dict[str, Callable]
    names: str
    files: str = "$^"


OPERATORS = {
    "batch norm with activation": Operator({"fused.normalises": never}, "norm", r"^norm"),
    "SimAM": Operator(
        {"usable": never}, r"^simam(?!_set)|^fused_simam|^(weigh|forward|backward|sigmoid_weight|\w+_block)$"
    ),
    "bias and ReLU epilogue": Operator(
        # With its bias and ReLU SimAM is one operator: then they are Paddle's, too.
        {"fused.add_bias_in_place": by_paddle, "patterns._joins": never},
        r"^bias|bias$|^add_(bias|in_place)|^epilogue$|^Epilogue$|^sum_channels$|^_joins$",
    ),
    "max-pooling": Operator({"fused.pools": never}, r"pool|^window$", r"^pool"),
    "depthwise convolution": Operator({"fused.convolves": not_depthwise}, "depthwise", r"^(depthwise|strips)"),
    "convolution": Operator({"fused.convolves": not_dense}, "conv", r"^(conv|direct|im2col|winograd)"),
}


@contextmanager
def switched_off(operator: str | None):
    """Within it Paddle's own layers compute what `operator` does; None: nothing changes."""
    with ExitStack() as stack:
        for name, instead in OPERATORS[operator].off.items() if operator else ():
            target = f"simam_repro.ops.{name}"
            stack.enter_context(mock.patch(target, instead(resolve_name(target))))
        yield


def measure(repeats: int, title: str) -> dict:
    """The row of one network: the speed without each operator, over that with all, turn by turn."""
    case = {"what": "train", **NETWORKS[title], **ON}
    sides = [None, *OPERATORS]
    seconds: dict[str | None, list[float]] = {side: [] for side in sides}
    with groups(paddle=PADDLE) as made:
        # Warms up; the memory that an operator's absence takes is had by then, too.
        steps = {
            side: max(1, round(MEASUREMENT_S / made["paddle"].run(**case, without=side, steps=1)["seconds"]))
            for side in sides
        }
        for _ in range(repeats):
            for side in sides:
                answer = made["paddle"].run(**case, without=side, steps=steps[side])
                seconds[side].append(answer["seconds"] / steps[side])
    relative = {
        side: spread([whole / without for whole, without in zip(seconds[None], seconds[side])]) for side in OPERATORS
    }
    row = {
        "case": title,
        "network": title,
        "images_per_s": spread([case["batch"] / one for one in seconds[None]]),
        "without": relative,
    }
    return {"title": "What each operator is worth in training with SimAM", "rows": [row], "lines": lines_of_code()}


def lines_of_code(folder: Path = OPS) -> dict[str, dict[str, int]]:
    """{operator: {"C++": lines, "Python": lines}} of the files in `folder`, without blank lines and comments."""
    counts = {operator: Counter() for operator in (*OPERATORS, SHARED)}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".h", ".cc", ".py"):
            language = "Python" if path.suffix == ".py" else "C++"
            for name, lines in _definitions(path.read_text(encoding="utf-8")):
                counts[_operator(path.name, name)][language] += lines
    return {operator: dict(count) for operator, count in counts.items()}


NAME = re.compile(
    r"^PD_BUILD_\w+\((?P<operator>\w+)|^(?:def|class|struct|enum|using) (?P<definition>\w+)|(?P<function>\w+)\("
)


def _operator(file: str, name: str) -> str:
    by_file = (title for title, operator in OPERATORS.items() if re.search(operator.files, file))
    by_name = (title for title, operator in OPERATORS.items() if re.search(operator.names, name))
    return next(by_file, None) or next(by_name, SHARED)


def _definitions(text: str):
    """(name, lines) of what stands between blank lines at the margin of a file in C++ or Python."""
    for block in re.split(r"\n\n+(?=\S)", text):
        lines = [line for line in block.splitlines() if line.strip() and not re.match(r"\s*(//|#(?!\w))", line)]
        first = next((line for line in lines if not line.startswith(("template", "@"))), "")
        found = NAME.search(first)
        yield (found[found.lastgroup] if found else ""), len(lines)
