"""Plain-text tables from run folders."""

from simam_repro.errors import UserError, printable
from simam_repro.evaluation.wording import chosen_note
from simam_repro.runs import STAND_IN_NOTE, RunFolder

ROWS = (
    ("attention", lambda r: r["attention"]),
    ("parameters", lambda r: f"{r['parameters']:,}"),
    ("final eval accuracy", lambda r: f"{r['final']['eval_acc']:.2%}"),
    ("final eval loss", lambda r: f"{r['final']['eval_loss']:.4f}"),
    ("best eval accuracy *", lambda r: f"{r['best']['eval_acc']:.2%}"),
    ("  at epoch", lambda r: f"{r['best']['epoch']} of {r['epochs']}"),
    ("training images/s", lambda r: f"{r['train_images_per_s']:.1f}"),
    ("eval images/s", lambda r: f"{r['eval_images_per_s']:.1f}"),
    ("wall time", lambda r: f"{r['wall_s']:.0f} s"),
)


def summary_line(result: dict) -> str:
    """One run in one line."""
    final, best = result["final"], result["best"]
    return printable(
        f"{result['name']} seed {result['seed']}: final eval accuracy {final['eval_acc']:.2%}, "
        f"best {best['eval_acc']:.2%} at epoch {best['epoch']} of {result['epochs']} "
        f"({result['data']['name']}{', stand-in data' if result['data']['stand_in'] else ''}; "
        f"{result['parameters']:,} parameters; {result['wall_s']:.0f} s on {result['device']})"
    )


def side_by_side(run_dirs) -> str:
    """A column a run, and what the table does and does not say."""
    results = [RunFolder(run_dir).read_result() for run_dir in run_dirs]
    if len({(r["data"]["sha256"], r["data"]["train_images"], r["data"]["eval_images"]) for r in results}) > 1:
        raise UserError("the runs are of different data; a table side by side would compare nothing")
    columns = [[name for name, _ in ROWS]] + [[cell(result) for _, cell in ROWS] for result in results]
    headers = ["", *(f"{result['name']} (seed {result['seed']})" for result in results)]
    widths = [max(map(len, [header, *column])) for header, column in zip(headers, columns)]
    lines = ["  ".join(header.rjust(width) for header, width in zip(headers, widths))]
    lines += ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in zip(*columns)]
    data = results[0]["data"]
    lines += ["", f"{data['train_images']} train and {data['eval_images']} eval images of {data['name']}."]
    chosen = {chosen_note(result["best"].get("chosen_on", "eval")) for result in results}
    lines += [f"* {'; '.join(sorted(chosen))}. One run each says nothing about a difference."]
    if any(result["data"]["stand_in"] for result in results):
        lines.append(STAND_IN_NOTE[0].upper() + STAND_IN_NOTE[1:] + ".")
    return printable("\n".join(lines))
