import pytest
from pydantic import ValidationError

from simam_repro.config import PROJECT_ROOT, SHAPES_NO_NUMBER, Experiment, build_experiment, load_config, smoke
from simam_repro.errors import UserError

CONFIGS = PROJECT_ROOT / "configs"
TOP_LEVEL = sorted(CONFIGS.glob("*.yaml"))
ALL = sorted(path for path in CONFIGS.rglob("*.yaml") if "_base_" not in path.parts)
PAIRS = [(path.with_name(path.name.replace("_simam", "")), path) for path in ALL if path.stem.endswith("_simam")]
PAIRS = [(plain, simam) for plain, simam in PAIRS if plain.exists()]


def relative(path):
    return str(path.relative_to(CONFIGS)) if hasattr(path, "relative_to") else None


@pytest.fixture
def write(tmp_path):
    """write(file name, YAML text) -> path."""

    def run(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return run


@pytest.fixture
def minimal(write):
    return write("minimal.yaml", "name: minimal\n")


def refusal(path, *overrides) -> str:
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    return str(caught.value)


# bases


def test_bases_merge_in_order_and_recursively(write):
    sections = "train: {epochs: 1, label_smoothing: 0.1}\ndata: {augment: {flip: 0.1, rotation: 1}}"
    write("_base_/root.yaml", f"seed: 1\n{sections}")
    write("_base_/first.yaml", "base: root.yaml\ntrain: {epochs: 2}\noptim: {momentum: 0.1}")
    write("_base_/second.yaml", "optim: {momentum: 0.2}\ndata: {augment: {rotation: 2}}")
    path = write("top.yaml", "base: [_base_/first.yaml, _base_/second.yaml]\nname: top\ndata: {batch_size: 3}")
    experiment = load_config(path)
    assert (experiment.seed, experiment.train.epochs, experiment.train.label_smoothing) == (1, 2, 0.1)
    assert experiment.optim.momentum == 0.2
    assert (experiment.data.augment.flip, experiment.data.augment.rotation) == (0.1, 2)
    assert experiment.data.batch_size == 3


def test_two_bases_may_share_one(write):
    write("root.yaml", "seed: 5")
    write("left.yaml", "base: root.yaml")
    write("right.yaml", "base: root.yaml")
    assert load_config(write("top.yaml", "base: [left.yaml, right.yaml]\nname: top")).seed == 5


def test_cyclic_bases(write):
    write("b.yaml", "base: a.yaml")
    assert "back to itself" in refusal(write("a.yaml", "base: b.yaml\nname: a"))


@pytest.mark.parametrize("base", ["3", "{x: y}", "[1]"])
def test_base_must_be_a_list_of_files(write, base):
    assert "base: needs a list" in refusal(write("a.yaml", f"base: {base}\nname: a"))


def test_missing_base_is_named(write):
    assert "nowhere.yaml" in refusal(write("a.yaml", "base: nowhere.yaml\nname: a"))


# files


def test_missing_file_suggests_a_near_name(write, tmp_path):
    write("alexnet_simam.yaml", "name: a")
    message = refusal(tmp_path / "alexnet_siman.yaml")
    assert f"did you mean {tmp_path / 'alexnet_simam.yaml'}?" in message


def test_missing_file_in_a_missing_folder(tmp_path):
    assert "cannot read config" in refusal(tmp_path / "none" / "a.yaml")


@pytest.mark.parametrize("text", ["", "[1, 2]", "just words"])
def test_config_must_be_a_mapping(write, text):
    assert "a config is a mapping" in refusal(write("a.yaml", text))


@pytest.mark.parametrize(
    "text", ["name: [", "name: a\n\tseed: 1", "name: !!python/object:os.system x", "name: !!timestamp 2021-99-99"]
)
def test_bad_yaml_names_the_file(write, text):
    assert "a.yaml is not valid YAML" in refusal(write("a.yaml", text))


@pytest.mark.parametrize("text", ["name: a\nname: b", "name: a\ntrain: {epochs: 1, epochs: 2}"])
def test_duplicate_keys(write, text):
    assert "given twice: " + ("epochs" if "epochs" in text else "name") in refusal(write("a.yaml", text))


def test_binary_file(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00name")
    assert "a.yaml" in refusal(tmp_path / "a.yaml")


# overrides


@pytest.mark.parametrize(
    ("override", "value"),
    [("1e-4", 1e-4), ("2E-3", 2e-3), ("1.5e-2", 0.015), (".5e-1", 0.05), ("1e+1", 10.0), ("0.25", 0.25), ("3", 3)],
)
def test_numbers(minimal, override, value):
    assert load_config(minimal, [f"optim.learning_rate={override}"]).optim.learning_rate == value


def test_scientific_numbers_in_a_file(write):
    path = write("a.yaml", "name: a\nmodel: {attention: simam, e_lambda: 1e-5}")
    assert load_config(path).model.attention.e_lambda == 1e-5


def test_overrides_apply_in_order_over_the_file(write):
    path = write("a.yaml", "name: a\ntrain: {epochs: 7, label_smoothing: 0.2}")
    experiment = load_config(path, ["train.epochs=2", "data.augment.crop_scale=[0.5, 1.0]", "train.epochs=3", "seed=9"])
    assert (experiment.train.epochs, experiment.train.label_smoothing, experiment.seed) == (3, 0.2, 9)
    assert experiment.data.augment.crop_scale == (0.5, 1.0)


def test_override_to_null_and_to_text_with_an_equals_sign(minimal):
    experiment = load_config(minimal, ["data.augment.resize=null", "data.archive=/tmp/a=b.zip"])
    assert experiment.data.augment.resize is None and experiment.data.archive == "/tmp/a=b.zip"


@pytest.mark.parametrize(
    "text", ["2024", "010", "1e3", "true", "2024-01-02", "photos/cats #2", "a: b", "[old] photos", "*cats", "!x", "{a}"]
)
def test_a_text_in_an_override_is_taken_as_it_is(minimal, write, text):
    experiment = load_config(minimal, ["data.dataset=folder", f"data.folder={text}"])
    assert experiment.data.folder == text
    assert load_config(write("again.yaml", experiment.to_yaml())) == experiment
    assert load_config(minimal, ["data.dataset=folder", f"data.folder='{text}'"]).data.folder == text


def test_an_override_of_a_number_has_no_comment(minimal):
    assert "train.epochs" in refusal(minimal, "train.epochs=2 # two")


@pytest.mark.parametrize(("text", "seed"), [("010", 10), ("08", 8), ("0x1F", 31), ("0o17", 15), ("+7", 7)])
def test_whole_numbers_are_those_of_yaml_1_2(minimal, write, text, seed):
    assert load_config(minimal, [f"seed={text}"]).seed == seed
    assert load_config(write("a.yaml", f"name: a\nseed: {text}")).seed == seed


@pytest.mark.parametrize("text", ["1:30", "1_000", "0b11"])
def test_what_yaml_1_2_does_not_take_for_a_number_is_none(minimal, text):
    assert "seed" in refusal(minimal, f"seed={text}")


@pytest.mark.parametrize("encoding", ["gbk", "utf-16"])
def test_a_file_that_is_not_utf_8_says_how_to_save_it(tmp_path, encoding):
    path = tmp_path / "a.yaml"
    path.write_bytes("name: a\n# 中文注释：学习率\n".encode(encoding))
    message = refusal(path)
    assert str(path) in message and "save the file as UTF-8" in message
    assert f"line {1 if encoding == 'utf-16' else 2} " in message


def test_a_byte_order_mark_disturbs_nothing(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes("name: a\n".encode("utf-8-sig"))
    assert load_config(path).name == "a"


@pytest.mark.parametrize("override", ["train.device=cuda", "name=../up", "data.root=a\tb"])
def test_a_text_of_the_wrong_form_is_answered_in_words(minimal, override):
    message = refusal(minimal, override)
    assert override.split("=")[0] in message and "pattern" not in message and "^" not in message


@pytest.mark.parametrize("override", ["train.epochs", "=3", "train.epochs 3"])
def test_override_without_key_or_value(minimal, override):
    message = refusal(minimal, override)
    assert f"-o {override}" in message and "key.sub=value" in message


def test_override_below_a_value(write):
    path = write("a.yaml", "name: a\nseed: 1")
    assert "seed is a value, not a section" in refusal(path, "seed.sub=1")


def test_override_that_is_not_yaml(minimal):
    assert "-o data.mean=[1, is not valid YAML" in refusal(minimal, "data.mean=[1,")


# validation


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("data.batchsize", "data.batch_size"),
        ("model.attenton", "model.attention"),
        ("model.lambda", "model.e_lambda"),
        ("optim.lr_rate", "optim.learning_rate"),
        ("optim.lr", "optim.learning_rate"),
        ("optim.wd", "optim.weight_decay"),
        ("data.workers", "data.num_workers"),
        ("data.augment.rotate", "data.augment.rotation"),
        ("trian.epochs", "train"),
        ("epochs", "train.epochs"),
        ("optim.warmup", "optim.warmup_epochs"),
        ("optim.scheduler", "optim.schedule"),
        ("optim.grad_clip", "optim.clip_norm"),
        ("train.batch_size", "data.batch_size"),
        ("train.seed", "seed"),
        ("data.flip", "data.augment.flip"),
    ],
)
def test_unknown_key_names_the_nearest(minimal, wrong, right):
    message = refusal(minimal, f"{wrong}=1")
    assert "unknown key" in message and f"did you mean {right}?" in message


@pytest.mark.parametrize("key", ["train.ema", "data.name", "optim.betas", "train.patience", "model.depth", "x.y"])
def test_no_key_is_suggested_where_none_is_meant(minimal, key):
    message = refusal(minimal, f"{key}=1")
    assert "unknown key; --print-config lists all keys" in message and "did you mean" not in message


@pytest.mark.parametrize(
    "override",
    [
        "train.epochs=yes",
        "train.epochs=0",
        "train.epochs=2.5",
        "train.epochs='3'",
        "train.device=cuda",
        "data.augment.flip='0.5'",
        "data.augment.flip=1.5",
        "data.image_size=4",
        "data.drop_last=1",
        "data.dataset=imagenet",
        "data.mean=[0.5, 0.5, 0.5, 0.5]",
        "data.mean=['0.5', 0.5, 0.5]",
        "data.mean=[.nan, 0.5, 0.5]",
        "data.train_limit=0",
        "optim.learning_rate=-1",
        "optim.learning_rate=.inf",
        "optim.learning_rate=null",
        "model.e_lambda=0",
        "model.backbone=[alexnet]",
        "seed=-1",
        "name=../up",
        "data=null",
        "train=3",
    ],
)
def test_wrong_value_names_its_key_and_itself(minimal, override):
    key = override.split("=")[0]
    message = refusal(minimal, override)
    assert f"  {key}" in message
    assert "got" in message


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("data.augment.crop_scale=[0.9, 0.5]", "0 < low <= high <= 1"),
        ("data.augment.crop_scale=[0, 1]", "0 < low <= high <= 1"),
        ("data.std=[0.2, 0, 0.2]", "three positive ones"),
        ("model.attention=SimAN", "did you mean simam?"),
        ("model.backbone=vgg", "which has alexnet, mobilenet_v2, "),
        ("data.mean=[0.5, 0.5]", "data.mean.2: missing"),
        ("train.device=cuda", "auto, cpu, gpu, gpu:N"),
    ],
)
def test_wrong_value_says_what_would_be_right(minimal, override, remedy):
    assert remedy in refusal(minimal, override)


def test_every_mistake_is_reported_at_once(minimal):
    message = refusal(minimal, "train.epochs=0", "data.batchsize=3", "optim.name=lion")
    assert all(key in message for key in ("train.epochs", "data.batchsize", "optim.name"))


def test_name_is_required(write):
    assert "name: missing" in refusal(write("a.yaml", "seed: 1"))


def test_frozen(minimal):
    experiment = load_config(minimal)
    with pytest.raises(ValidationError):
        experiment.seed = 1
    with pytest.raises(ValidationError):
        experiment.data.batch_size = 1
    assert (experiment.seed, experiment.data.batch_size) == (0, 32)


# the resolved text


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["optim.learning_rate=1e-7", "optim.weight_decay=3e-5", "data.augment.crop_scale=[0.08, 1]"],
        ["data.root=/tmp/with 'quotes' and # é", "data.archive=null", "data.train_limit=5"],
        ["name='1e5'"],
        ["name='2021-01-01'"],
        ["name='on'"],
    ],
)
def test_round_trip(minimal, write, overrides):
    experiment = load_config(minimal, overrides)
    assert load_config(write("again.yaml", experiment.to_yaml())) == experiment


def test_flat_keys(minimal):
    flat = load_config(minimal, ["data.augment.flip=0.5"]).to_flat()
    assert flat["data.augment.flip"] == 0.5 and flat["name"] == "minimal" and flat["data.mean"] == [0.485, 0.456, 0.406]
    assert not any(isinstance(value, dict) for value in flat.values())


PLACEMENT = [
    "name=other", "data.root=/tmp/elsewhere", "data.num_workers=0", "model.fused=false", "train.checkpoint_steps=7",
    "train.device=gpu:1", "logging.visualdl=false", "logging.step_interval=3",
]  # fmt: skip


def test_the_recipe_is_what_shapes_numbers(minimal):
    first, moved = load_config(minimal), load_config(minimal, PLACEMENT)
    assert first != moved and first.recipe() == moved.recipe() and first.differing_keys(moved) == []
    assert set(first.to_flat()) - set(first.recipe()) == {option.partition("=")[0] for option in PLACEMENT}
    other = load_config(minimal, [*PLACEMENT, "seed=3", "train.epochs=7", "data.augment.flip=0.5"])
    assert first.differing_keys(other) == other.differing_keys(first) == ["seed", "data.augment.flip", "train.epochs"]
    without = ("seed", "data", "train.epochs")
    assert first.recipe(without) == other.recipe(without) and "data.augment.flip" not in first.recipe(without)
    assert "train.label_smoothing" in first.recipe(without)


def test_what_shapes_no_number_are_keys_that_exist(minimal):
    keys = load_config(minimal).to_flat()
    assert all(any(key == name or key.startswith(f"{name}.") for key in keys) for name in SHAPES_NO_NUMBER)


def test_smoke_cuts_the_run_and_nothing_else(minimal):
    full = load_config(minimal, ["data.image_size=128", "train.epochs=50", "data.batch_size=128"])
    small = smoke(full)
    assert (small.data.batch_size, small.data.train_limit, small.data.eval_limit) == (4, 8, 8)
    before, after = full.to_flat(), small.to_flat()
    cut = {"data.batch_size", "data.train_limit", "data.eval_limit", "train.epochs", "logging.step_interval"}
    assert {key for key in before if before[key] != after[key]} == cut
    assert small.train.epochs == 1
    assert full.data.batch_size == 128


def test_smoke_keeps_a_small_batch(minimal):
    data = smoke(load_config(minimal, ["data.batch_size=3"])).data
    assert (data.batch_size, data.train_limit, data.eval_limit) == (3, 6, 6)


def test_smoke_is_a_valid_experiment(minimal):
    small = smoke(load_config(minimal))
    assert build_experiment(small.model_dump()) == small


# the files in configs/


@pytest.mark.parametrize("path", ALL, ids=relative)
def test_config_file_loads_and_round_trips(path, write):
    experiment = load_config(path)
    assert isinstance(experiment, Experiment)
    assert load_config(write("again.yaml", experiment.to_yaml())) == experiment


@pytest.mark.parametrize("path", TOP_LEVEL, ids=relative)
def test_config_is_named_as_its_file(path):
    assert load_config(path).name == path.stem


@pytest.mark.parametrize(("plain", "with_simam"), PAIRS, ids=relative)
def test_pair_differs_in_its_switch_only(plain, with_simam):
    off, on = load_config(plain).to_flat(), load_config(with_simam).to_flat()
    assert {key for key in off if off[key] != on[key]} == {"name", "model.attention.name"}
    assert (off["model.attention.name"], on["model.attention.name"]) == ("none", "simam")


def test_the_pairs_of_the_two_experiments_and_the_demo_are_there():
    assert {"caltech_towernet", "alexnet", "demo_towernet"} <= {plain.stem for plain, _ in PAIRS}


def test_names_are_unique():
    names = [load_config(path).name for path in ALL]
    assert len(set(names)) == len(names)


def test_yaml_merge_keys_work(tmp_path):
    path = tmp_path / "merged.yaml"
    path.write_text(
        "name: merged\ndata: &common\n  image_size: 128\ntrain:\n  epochs: 3\noptim:\n  <<: {momentum: 0.5}\n"
    )
    assert load_config(path).optim.momentum == 0.5
