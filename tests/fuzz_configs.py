"""Mutants of the real configs: wrong keys, types and sizes, wrong files and damaged bytes; from a seed."""

import random
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from simam_repro.config import PROJECT_ROOT, load_config

# The small networks most often, so that training every accepted mutant takes minutes and not hours.
SMALL = ["demo_towernet", "demo_towernet_simam", "alexnet", "alexnet_simam", "cifar10_mobilenetv2_simam"]
VALUES = """yes|abc|[1]|{a: 1}|null|'3'|1.5|-1|0|1|.nan|.inf|-.inf|1e308|1e-308|-0.0|99999999999999999999|0x7fffffff
true|false|''|[]|{}|[.nan, 0, 0]|[0, 0, 0]|[1, 1]|[[[]]]|é|"\\ud800"|"\\0"|2021-01-01|!!binary aGk=|!!set {a}|!!bool x
!!timestamp x|!!python/object:os.system x|*nowhere|&a [*a]|1:30:00|1_000|simam|auto|gpu:7|gpu:999999|cpu|-5|1e-4|0.5|2|8
16|64|255|1000|65536|2147483648""".replace("\n", "|").split("|")
TYPOS = [
    lambda key, rng: key[:-1],
    lambda key, rng: key + "s",
    lambda key, rng: key.upper(),
    lambda key, rng: key.replace("_", "-") if "_" in key else key * 2,
    lambda key, rng: "".join(rng.sample(key, len(key))) + "x",
    lambda key, rng: f"{key} ",
    lambda key, rng: rng.choice([1, None, True, 2.5, "lr", "é", "__class__", "base", "model_config"]),
]
OVERRIDES = """train.epochs|=3|.=1|a..b=1|..=|data=1|data=null|data=[]|seed.x=1|name=|name=../up|name=a/b|name=con|=|
train.epochs==2|train.epochs=2=3|data.mean.0=1|data.augment.crop_scale.low=1|base=[x]|model.backbone=resnet5O
data.mean=[1,|optim={name: sgd}|optim=sgd|logging.visualdl=off|data.augment=null|train.device=cuda:0|x.y.z=1
seed=0""".replace("\n", "|").split("|")
# At the edges of what is right.
EDGES = """optim.name=adamw|optim.warmup_epochs=0.5|optim.warmup_epochs=99999|optim.clip_norm=1e-6|optim.clip_norm=1e6
optim.schedule=step|optim.milestones=[1]|data.augment.pad_crop=64|data.augment.jitter=cv2|data.dataset=cifar100
optim.name=adam|optim.name=sgd|optim.schedule=constant|optim.schedule=cosine_swinging|model.attention=none
train.mixup_alpha=1e-300|train.mixup_alpha=100|train.label_smoothing=0.99|data.augment.flip=1|data.drop_last=true
data.augment.crop_scale=[1e-9, 1e-9]|data.num_workers=64|logging.visualdl=false|data.augment.rotation=180
data.augment.color_jitter=0.99|data.train_limit=1|data.eval_limit=1|data.batch_size=1|data.batch_size=65536
data.image_size=128|model.e_lambda=1e-12|model.e_lambda=1e6|optim.learning_rate=1e-300|optim.weight_decay=1
train.best_from=0.999|data.augment.resize=8|data.augment.resize=2048|data.skip_damaged=true|optim.momentum=0.999
data.std=[0.001, 0.001, 0.001]|data.mean=[1000, -1000, 0]|train.epochs=100000|seed=2147483647|name=_|name=a..b
logging.step_interval=99999999999999999999999|data.train_limit=99999999999999999999999|model.weights=null""".replace(
    "\n", "|"
).split("|")
TEXTS = {
    "deep lists": lambda text: text + "x: " + "[" * 10_000,
    "deep maps": lambda text: text + "x: " + "{a: " * 10_000,
    "deep but closed": lambda text: text + "x: " + "[" * 500 + "]" * 500,
    "many keys": lambda text: text + "".join(f"key{n}: 1\n" for n in range(6000)),
    "long": lambda text: text + "#" * 2**21,
    "holds itself": lambda text: text + "data: &d {augment: *d}\n",
    "merges itself": lambda text: "&a <<: *a\n" + text,
    "thousands of digits": lambda text: text + f"seed: {'9' * 5000}\n",
    "hexadecimal": lambda text: text + f"seed: 0x{'f' * 5000}\n",
    "two documents": lambda text: text + "---\n" + text,
    "twice": lambda text: text + text,
    "tabs": lambda text: text.replace("  ", "\t"),
    "no colon": lambda text: text.replace(":", "", 1),
    "list": lambda text: "- " + text.replace("\n", "\n  "),
    "empty": lambda text: "",
    "comment only": lambda text: "# nothing\n",
    "scalar": lambda text: "name",
    "list as key": lambda text: "? [a, b]\n: 1\n" + text,
    "null byte": lambda text: text + "\0",
}
BYTES = {
    "latin-1": lambda content, rng: content + "# é\n".encode("latin-1"),
    "utf-16": lambda content, rng: content.decode().encode("utf-16"),
    "byte order mark": lambda content, rng: b"\xef\xbb\xbf" + content,
    "cut": lambda content, rng: content[: _place(content, rng)],
    "noise": lambda content, rng: rng.randbytes(300),
    "one byte": lambda content, rng: _with_byte(content, _place(content, rng), rng.randrange(256)),
    "one letter": lambda content, rng: _with_byte(content, _place(content, rng), rng.randrange(32, 127)),
    "windows line ends": lambda content, rng: content.replace(b"\n", b"\r\n"),
}


def _place(content: bytes, rng) -> int:
    return int(rng.random() * len(content))


def _with_byte(content: bytes, position: int, value: int) -> bytes:
    return content[:position] + bytes([value]) + content[position + 1 :]


@dataclass
class Mutant:
    """What train.py is given: a config file and options; `changes` says what was done to them."""

    config: Path
    options: list = field(default_factory=list)
    changes: list = field(default_factory=list)

    def override(self, text: str) -> None:
        self.options += ["-o", text]
        self.changes.append(f"-o {text[:80]}")


def make_mutants(count: int, seed: int, folder: Path) -> list[Mutant]:
    """`count` mutants, whose files are below `folder`."""
    rng = random.Random(seed)
    bases = [path for path in sorted((PROJECT_ROOT / "configs").rglob("*.yaml")) if path.parent.name != "_base_"]
    small = [path for path in bases if path.stem in SMALL and path.parent.name == "configs"]
    files = _wrong_files(folder / "wrong")
    return [
        _mutate(rng, rng.choice(small if rng.random() < 0.8 else bases), folder / str(n), files) for n in range(count)
    ]


def _mutate(rng, base: Path, folder: Path, files: dict) -> Mutant:
    folder.mkdir(parents=True)
    mutant = Mutant(folder / "config.yaml")
    values = yaml.safe_load(base.read_text(encoding="utf-8"))
    bases = values.pop("base", [])
    values["base"] = [str(base.parent / name) for name in ([bases] if isinstance(bases, str) else bases)]
    flat = {**load_config(base).to_flat(), "bases": values["base"]}
    steps = rng.sample(STEPS, rng.choice([1, 1, 1, 2]))
    for step in steps:
        step(rng, values, mutant, flat, files)
    text = yaml.safe_dump(values, allow_unicode=True, sort_keys=False)
    kind = rng.random()
    if kind < 0.12:
        name = rng.choice(list(TEXTS))
        text = TEXTS[name](text)
        mutant.changes.append(name)
    content = text.encode()
    if 0.12 < kind < 0.2:
        name = rng.choice(list(BYTES))
        content = BYTES[name](content, rng)
        mutant.changes.append(name)
    mutant.config.write_bytes(content)
    return mutant


# data.root is where mutants would write: it gets its own wrong values from `_wrong_file`.
def _any_key(rng, flat) -> str:
    return rng.choice([key for key in flat if key not in ("data.root", "bases")])


def _change_value(rng, values, mutant, flat, files):
    mutant.override(f"{_any_key(rng, flat)}={rng.choice(VALUES)}")


def _nudge(rng, values, mutant, flat, files):
    """A number that may well be right."""
    key = rng.choice([key for key, value in flat.items() if isinstance(value, (int, float))])
    factor = rng.choice([0, 0.5, 0.9, 1.1, 2, 4, 10, 1000, -1])
    value = flat[key] * factor if flat[key] else factor
    mutant.override(f"{key}={int(value) if type(flat[key]) is int else float(value)}")


def _edge(rng, values, mutant, flat, files):
    mutant.override(rng.choice(EDGES))


def _misspell(rng, values, mutant, flat, files):
    section = rng.choice([values, *(value for value in values.values() if isinstance(value, dict) and value)])
    key = rng.choice(list(section))
    wrong = rng.choice(TYPOS)(str(key), rng)
    section[wrong] = section.pop(key)
    mutant.changes.append(f"{key} -> {wrong!r}")


def _remove(rng, values, mutant, flat, files):
    section = rng.choice([values, *(value for value in values.values() if isinstance(value, dict) and value)])
    key = rng.choice(list(section))
    del section[key]
    mutant.changes.append(f"without {key}")


def _break_section(rng, values, mutant, flat, files):
    key, value = (
        rng.choice(["data", "model", "optim", "train", "logging"]),
        rng.choice([3, None, "x", [1], [{}], {"": 1}]),
    )
    values[key] = value
    mutant.changes.append(f"{key}: {value!r}")


def _break_base(rng, values, mutant, flat, files):
    name = rng.choice(["../config.yaml", "config.yaml", ".", "..", "nowhere.yaml", "/dev/zero", "x" * 300, "a\0b", ""])
    values["base"] = rng.choice([[name], name, [1], {"a": 1}, 3, [[]], [*flat["bases"], name], [None]])
    mutant.changes.append(f"base: {str(values['base'])[:80]}")


def _wrong_file(rng, values, mutant, flat, files):
    key = rng.choice(["data.archive", "model.weights", "data.folder", "data.root"])
    if key == "data.folder":
        mutant.override("data.dataset=folder")
    mutant.override(f"{key}={rng.choice(files['roots' if key == 'data.root' else 'all'])}")


def _odd_override(rng, values, mutant, flat, files):
    mutant.override(rng.choice(OVERRIDES))


def _odd_option(rng, values, mutant, flat, files):
    name, value = (
        rng.choice(["--seed", "--device"]),
        rng.choice(["-1", "x", "1.5", "", "gpu:9", "cpu", "7", "1e3", "[1]"]),
    )
    mutant.options.append(f"{name}={value}")
    mutant.changes.append(f"{name}={value}")


# A step stands here as often as it is to be drawn.
STEPS = [
    *[_change_value] * 3, *[_nudge] * 2, *[_edge] * 4, _misspell, _remove, _break_section, _break_base, _wrong_file,
    _odd_override, _odd_option,
]  # fmt: skip


def _wrong_files(folder: Path) -> dict[str, list[str]]:
    """{"all": wrong files for any key, "roots": those that a data folder cannot be}."""
    (folder / "folder" / "class").mkdir(parents=True)
    contents = {
        "text.zip": b"<html>", "cut.zip": b"PK\x03\x04", "empty.tar.gz": b"", "noise.pdparams": bytes(range(256)),
        "crafted.pdparams": b"cposix\nsystem\n(S'true'\ntR.", "noise.safetensors": b"\xff" * 99, "weights.pth": b"x",
    }  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    below_a_file = str(folder / "text.zip" / "data")
    roots = ["/dev/null", below_a_file, str(folder / ("x" * 300)), '"a\\0b"', "''"]
    odd = [*roots, "[a]", "3"]  # as roots they would be folders of the project
    return {"all": [*map(str, sorted(folder.iterdir())), str(folder / "none.zip"), "/dev/zero", *odd], "roots": roots}
