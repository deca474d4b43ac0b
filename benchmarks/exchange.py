"""Training in two processes: gradients averaged through shared memory (training/exchange.py) against gloo, the way of
`paddle.DataParallel`.

One pair of processes with one thread each has both, in turns.
"""

from training import ON, ORIGINALS, PADDLE
from workers import spread, turns

ONE_THREAD = {"FLAGS_paddle_num_threads": "1", "MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
WAYS = {"shared memory": "memory", "gloo": "gloo"}


def measure(repeats: int, processes: int = 2) -> dict:
    """Rows with case, images/s of both ways, and their ratio turn by turn."""
    speeds = {title: {way: [] for way in WAYS} for title in ORIGINALS}
    for turn, made in turns(repeats, pair={**PADDLE, "processes": processes, "environment": ONE_THREAD}):
        for title, network in ORIGINALS.items():
            case = {"what": "train", **network, **ON}
            for way, exchange in sorted(WAYS.items(), reverse=bool(turn % 2)):
                seconds = made["pair"].run(**case, exchange=exchange)["seconds"]
                speeds[title][way].append(case["batch"] * case["steps"] / seconds)
    rows = [{"case": f"{title} with SimAM", **_row(ways)} for title, ways in speeds.items()]
    return {"title": "Averaging the gradients of two processes, training images/s", "rows": rows}


def _row(ways: dict[str, list[float]]) -> dict:
    ratios = [memory / gloo for memory, gloo in zip(ways["shared memory"], ways["gloo"])]
    return {**{way: spread(values) for way, values in ways.items()}, "shared memory / gloo": spread(ratios)}
