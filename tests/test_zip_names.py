"""Names in zips of other systems: decoded as what they are, or refused."""

import struct
import zipfile

import miniatures
import pytest

from simam_repro.data.archives import read_archive
from simam_repro.errors import UserError

# Real class names; 0x5C, the backslash, is the second byte of a character in the last of each.
GBK = "猫 狗 鸟 鱼 马 牛 羊 猪 虎 兔 龙 蛇 猴 鸡 鼠 運動靴".split()
SHIFT_JIS = "犬 猫 鳥 写真 りんご 桜 表示 ソース".split()
NAMES = {
    "gbk": GBK,
    "cp932": SHIFT_JIS,
    "cp950": "貓 狗 鳥 蘋果 照片 許可 功能".split(),
    "cp949": "고양이 강아지 토끼 사자".split(),
    "cp437": "café crème Äpfel niño".split(),
    "cp1252": "café crème Äpfel niño".split(),
    "cp866": "кошка собака Фото".split(),
    "utf-8": ["猫", "café", "кошка"],
}


def write_zip(path, files: dict[bytes, bytes], system: int = 0):
    """A zip of {name: content} that says nothing of the names' encoding."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, content) in enumerate(files.items()):
            info = zipfile.ZipInfo(f"{number:03d}".ljust(len(name), "#"))  # stands for the name, see below
            info.create_system = system
            archive.writestr(info, content)
    content = path.read_bytes()
    for number, name in enumerate(files):
        content = content.replace(b"%03d" % number + b"#" * (len(name) - 3), name)
    path.write_bytes(content)
    return path


def one_each(names, codec: str) -> dict[bytes, bytes]:
    return {f"Images/{name}/0.jpg".encode(codec): b"%d" % number for number, name in enumerate(names)}


@pytest.mark.parametrize("codec", NAMES)
def test_names_are_what_they_were(tmp_path, capsys, codec):
    path = write_zip(tmp_path / "own.zip", one_each(NAMES[codec], codec))
    found = {str(member.path): member.read() for member in read_archive(path)}
    assert found == {f"Images/{name}/0.jpg": b"%d" % number for number, name in enumerate(NAMES[codec])}
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "own.zip: names read as " in said and NAMES[codec][0] in said


@pytest.mark.parametrize(("codec", "names"), [("gbk", GBK), ("cp932", [*SHIFT_JIS, *map(str, range(8))])])
def test_no_class_is_lost(prepare, tmp_path, codec, names):
    """In the names of the last classes a backslash is half of a character."""
    files = [f"Images/{name}/{number}.jpg".encode(codec) for name in names for number in range(3)]
    path = write_zip(tmp_path / "own.zip", {name: miniatures.jpeg(number) for number, name in enumerate(files)})
    data = prepare("caltech101_16", archive=str(path))
    assert set(data.classes) == set(names) and len(data.train) == 16 * 2


def test_backslashes_of_windows_part_folders_and_those_of_others_do_not(tmp_path):
    windows = write_zip(tmp_path / "windows.zip", {rb"Images\cat\0.jpg": b""})
    assert [str(member.path) for member in read_archive(windows)] == ["Images/cat/0.jpg"]
    unix = write_zip(tmp_path / "unix.zip", {rb"Images/back\slash/0.jpg": b""}, system=3)
    assert [member.path.parts for member in read_archive(unix)] == [("Images", r"back\slash", "0.jpg")]


def test_a_name_in_utf8_beside_it_is_taken(tmp_path):
    text = "Images/猫/0.jpg".encode()
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        info = zipfile.ZipInfo("Images/__/0.jpg")
        info.extra = struct.pack("<HHBL", 0x7075, 5 + len(text), 1, 0) + text
        archive.writestr(info, b"1")
    assert [str(member.path) for member in read_archive(tmp_path / "own.zip")] == ["Images/猫/0.jpg"]


def test_names_of_no_encoding_are_refused_with_a_way_out(tmp_path):
    path = write_zip(tmp_path / "own.zip", {b"Images/\xff\xfe\x9d/0.jpg": b""})
    with pytest.raises(UserError, match="own.zip: its names are in no encoding .* -mcu=on.* data.dataset=folder"):
        list(read_archive(path))
