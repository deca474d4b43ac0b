"""The committed notebooks: in step with their .py, executed, small, and free of a machine's traces."""

import json

import build_notebooks
import commands
import miniatures
import pytest

FOLDER = commands.ROOT / "notebooks"
SOURCES = sorted(FOLDER.glob("[0-9]*.py"))
MOST_BYTES = 1_000_000


def committed(source) -> dict:
    return json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))


def percent_cells(text: str) -> list[tuple[str, str]]:
    """(type, source) of the cells of a file in the percent format."""
    cells = []
    for block in text.split("\n# %%")[0 if text.startswith("# %%") else 1 :]:
        head, _, body = block.removeprefix("# %%").partition("\n")
        if "[markdown]" in head:
            lines = [line.removeprefix("#").removeprefix(" ") for line in body.strip("\n").split("\n")]
            cells.append(("markdown", "\n".join(lines)))
        else:
            cells.append(("code", body.strip("\n")))
    return cells


def test_there_are_four():
    assert [source.name[:2] for source in SOURCES] == ["00", "01", "02", "03"]
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == [source.stem for source in SOURCES]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_ipynb_holds_the_cells_of_its_py(source):
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in committed(source)["cells"]]
    assert cells == percent_cells(source.read_text(encoding="utf-8")), "run scripts/build_notebooks.py"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_executed_small_and_without_traces(source):
    notebook = committed(source)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = {kind for cell in code for output in cell["outputs"] for kind in output.get("data", {})}
    assert kinds & {"image/png", "image/jpeg"}
    assert source.with_suffix(".ipynb").stat().st_size < MOST_BYTES
    assert not build_notebooks.problems(code)
    assert not any(build_notebooks.ABSOLUTE_PATH.search(text) for _, text in percent_cells(source.read_text()))
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}


@pytest.mark.parametrize("source", SOURCES[1:3], ids=lambda source: source.stem)
def test_the_data_is_named(source):
    outputs = [output for cell in committed(source)["cells"] for output in cell.get("outputs", ())]
    texts = ["".join(output.get("text", "")) for output in outputs]
    assert any("data used below: " in text and "used here: " in text for text in texts)


def test_problems_are_found():
    def cell(**output):
        return {"outputs": [output]}

    assert build_notebooks.problems([cell(name="stderr", text="a warning")])
    assert build_notebooks.problems([cell(name="stdout", text=["fine\n", "saved /home/me/x\n"])])
    assert build_notebooks.problems([cell(data={"text/plain": "PosixPath('/tmp/x')"})])
    assert not build_notebooks.problems([cell(name="stdout", text="runs/tmp/x, 3 images/s and/or https://a.b/tmp/c")])


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_executes(source, monkeypatch):
    pytest.importorskip("nbclient", reason="requirements-notebooks.txt is not installed")
    nbformat = pytest.importorskip("nbformat")
    for name, value in commands.NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    build_notebooks.execute(notebook, FOLDER)
    assert not build_notebooks.problems(notebook.cells)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["Images.zip", "cifar-10-python.tar.gz"])
def test_start_takes_the_data_set_of_ai_studio_from_any_folder(what, tmp_path, monkeypatch):
    pytest.importorskip("nbclient", reason="requirements-notebooks.txt is not installed")
    import jupytext

    write = {"Images.zip": miniatures.write_images_zip, "cifar-10-python.tar.gz": miniatures.write_cifar}[what]
    write(tmp_path / "aistudio" / "data" / "data123" / what)
    changes = (
        f"data.root={tmp_path}/data data.allow_miniature=true train.epochs=1 data.train_limit=32 data.eval_limit=16"
    )
    for name, value in commands.NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AISTUDIO_DATA", str(tmp_path / "aistudio" / "data"))
    monkeypatch.setenv("NOTEBOOK_CHANGES", changes)
    monkeypatch.setenv("PYTHONPATH", str(commands.ROOT))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    notebook = build_notebooks.execute(jupytext.read(SOURCES[0]), elsewhere)
    text = "".join(str(output.get("text", "")) for cell in notebook.cells for output in cell.get("outputs", ()))
    assert {"Images.zip": "16 classes", "cifar-10-python.tar.gz": "CIFAR-10"}[what] in text
    assert "final eval accuracy" in text
