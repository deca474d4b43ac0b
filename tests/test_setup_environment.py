"""The choice of packages. No GPU is needed: what the driver says is given."""

import setup_environment


def test_gpu_packages_where_the_wheel_has_code_for_the_gpu(capsys):
    choose = setup_environment.choose
    assert choose("auto", []) == "cpu"
    assert choose("auto", [8.6]) == "gpu"
    assert choose("auto", [6.1, 9.0]) == "gpu"
    assert capsys.readouterr().out == ""
    assert choose("auto", [9.0]) == "cpu"
    assert "9.0" in capsys.readouterr().out
    assert choose("gpu", []) == "gpu" and choose("cpu", [8.6]) == "cpu"


def test_capabilities_are_read_from_the_driver(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf '7.5\\n8.6\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert setup_environment.compute_capabilities() == [7.5, 8.6]
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert setup_environment.compute_capabilities() == []


def test_cuda_libraries_are_linked_under_both_names(tmp_path):
    folder = tmp_path / "lib/python3.11/site-packages/nvidia/cudnn/lib"
    folder.mkdir(parents=True)
    (folder / "libcudnn.so.8").write_text("library")
    setup_environment.link_cuda_libraries(tmp_path)
    setup_environment.link_cuda_libraries(tmp_path)
    assert sorted(path.name for path in (tmp_path / "cuda").iterdir()) == ["libcudnn.so", "libcudnn.so.8"]
    assert (tmp_path / "cuda" / "libcudnn.so").read_text() == "library"
