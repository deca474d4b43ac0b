# %% [markdown]
# # Start here: train a pair in two minutes · 从这里开始：两分钟训练一对模型
#
# This notebook trains one network twice, without and with SimAM, and draws both curves. It runs from any folder, on a
# CPU or a GPU. It takes the first data that it finds: an AI Studio data set with `Images.zip` (16 classes of
# Caltech-101) or `cifar-10-python.tar.gz`, else the embedded generated images.
#
# **One short run per arm says nothing about SimAM.** It shows that everything works here, and what a comparison looks
# like; README has what longer runs with several seeds say.
#
# 本 notebook 把同一个网络训练两次（不用与使用 SimAM），并画出两条曲线。在任何目录下都能运行，CPU、GPU 均可。数据按以下顺序查找：AI Studio 数据集中的
# `Images.zip`（Caltech-101 的 16 类）或 `cifar-10-python.tar.gz`；都没有时，使用内置的生成图像。
#
# **各只跑一次、又很短，说明不了 SimAM 的效果。** 它只说明这里一切正常，以及对比长什么样；更长、多个种子的结果见 README。

# %% [markdown]
# ## 1. The project · 项目
#
# Found where this notebook lies in a checkout, or where the package is installed. If neither: set `REPOSITORY` to the
# address of the repository (or to a folder with a copy of it), and the next cell installs it.
#
# 如果 notebook 在仓库目录里，或者已经安装了本包，直接运行即可。否则把 `REPOSITORY` 设为仓库地址（或本地副本的目录），下面的单元会自动安装。

# %%
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = os.environ.get("SIMAM_REPOSITORY", "")

checkout = next((folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "simam_repro").is_dir()), None)
if checkout:
    sys.path.insert(0, str(checkout))
elif importlib.util.find_spec("simam_repro") is None:
    assert REPOSITORY, "set REPOSITORY to the address of the repository (git+https://...), or to a folder with a copy"
    paddle_too = "" if importlib.util.find_spec("paddle") else "[cpu]"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", f"simam_repro{paddle_too} @ {REPOSITORY}"], check=True)

from simam_repro.cli import process  # noqa: E402

process.set_paddle_defaults()

# %% [markdown]
# ## 2. The data · 数据

# %%
from simam_repro import fit, load_config  # noqa: E402

AISTUDIO = Path(os.environ.get("AISTUDIO_DATA", "/home/aistudio/data"))
SHORT = ["data.train_limit=640", "data.eval_limit=320", "train.epochs=3", "optim.learning_rate=0.002"]


def first(name: str):
    """The first file of that name in a data set of AI Studio."""
    return next(iter(sorted(AISTUDIO.glob(f"*/{name}"))), None)


if archive := first("Images.zip"):
    what, configs = "Images.zip, 16 classes", ("caltech_towernet", "caltech_towernet_simam")
    changes = [f"data.archive={archive}", "data.image_size=128", *SHORT]
elif archive := first("cifar-10-python.tar.gz"):
    what, configs = "CIFAR-10", ("cifar10_towernet", "cifar10_towernet_simam")
    changes = [f"data.archive={archive}", "data.image_size=128", "data.batch_size=32", *SHORT]
else:
    what, configs = "generated images (stand-in data)", ("demo_towernet", "demo_towernet_simam")
    changes = ["data.train_limit=384"]
changes += os.environ.get("NOTEBOOK_CHANGES", "").split()
print("data used here:", what)

# %% [markdown]
# ## 3. Train both arms · 训练两个模型

# %%
from simam_repro.config import PROJECT_ROOT  # noqa: E402

run_dirs = []
for config in configs:
    experiment = load_config(f"configs/{config}.yaml", changes)
    run_dirs.append(PROJECT_ROOT / "runs" / "notebook" / experiment.name)
    fit(experiment, run_dirs[-1], overwrite=True)

# %% [markdown]
# ## 4. Compare · 对比

# %%
from PIL import Image  # noqa: E402

from simam_repro.reporting import plot_curves, side_by_side, write_figures  # noqa: E402



def show(file, width: int = 800):
    """A figure, small enough to keep in a notebook."""
    image = Image.open(file).convert("RGB")
    return image.resize((width, round(image.height * width / image.width))).quantize(128)


plot_curves(run_dirs, PROJECT_ROOT / "runs" / "notebook" / "curves.png")
print(side_by_side(run_dirs))
show(PROJECT_ROOT / "runs" / "notebook" / "curves.png")

# %%
write_figures(run_dirs[-1])
show(run_dirs[-1] / "figures" / "predictions.png", width=600)

# %% [markdown]
# ## What next · 接下来
#
# - The full experiments · 完整实验: `make caltech-towernet`, `make cifar-alexnet`, or `simam train -c configs/...`
# - All curves in a browser · 在浏览器里看所有曲线: `make visualdl`
# - Several seeds, and what they allow you to say · 多个种子，以及能得出什么结论: `docs/statistics.md`
# - Your own images, network or module · 用自己的图像、网络或模块: `docs/`
