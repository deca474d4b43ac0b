import bz2
import gzip
import hashlib
import http.server
import io
import lzma
import tarfile
import threading
import time
import urllib.request
import zipfile
from urllib.error import URLError

import miniatures
import pytest

from simam_repro.data import archives
from simam_repro.data.archives import Source, locate, read_archive
from simam_repro.errors import UserError

CONTENT = b"an archive, as far as its download goes" * 50_000
MD5 = hashlib.md5(CONTENT).hexdigest()


def source(url="https://example.org/files/set.tar.gz", md5=MD5):
    return Source("The Set", url, {"set.tar.gz": md5, "inner.tar": md5}, megabytes=2)


def refusal(function, *args, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


# finding


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_first_folder_wins(tmp_path):
    touch(tmp_path / "b" / "set.tar.gz")
    first = touch(tmp_path / "a" / "set.tar.gz")
    assert locate(source(), [tmp_path / "a", tmp_path / "b"]) == first


def test_looks_recursively_and_past_missing_folders(tmp_path):
    hidden = touch(tmp_path / "b" / "deep" / "deeper" / "set.tar.gz")
    assert locate(source(), [tmp_path / "none", tmp_path / "b"]) == hidden


def test_links_are_followed_and_lead_nowhere_twice(tmp_path):
    archive = touch(tmp_path / "disk" / "deep" / "set.tar.gz")
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "loop").symlink_to(tmp_path / "disk")
    assert locate(source(), [tmp_path / "named"]).samefile(archive)
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "set.tar.gz").symlink_to(archive)
    assert locate(source(), [tmp_path / "file"]).samefile(archive)


def test_any_known_name_will_do_and_a_folder_of_that_name_will_not(tmp_path):
    (tmp_path / "set.tar.gz").mkdir()
    inner = touch(tmp_path / "x" / "inner.tar")
    assert locate(source(), [tmp_path]) == inner


def test_no_archive_and_no_network(tmp_path, monkeypatch):
    def unplugged(*args, **kwargs):
        raise URLError("name resolution failed")

    monkeypatch.setattr(urllib.request, "urlopen", unplugged)
    folders = [tmp_path / "archives", tmp_path / "elsewhere"]
    message = refusal(locate, source(), folders, progress=False)
    expected = ["The Set", "set.tar.gz or inner.tar", *map(str, folders), source().url, "2 MB"]
    expected += ["SIMAM_ARCHIVES", "make demo", "name resolution failed"]
    assert [text for text in expected if text not in message] == []
    assert not folders[0].exists()


# downloading


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/missing/set.tar.gz":
            self.send_error(404)
        elif self.path == "/cut/set.tar.gz":
            self._send(CONTENT[:1000], len(CONTENT))
        elif self.path == "/cut-chunk/set.tar.gz":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"fff\r\nshort")
            self.close_connection = True
        else:
            self._send(CONTENT, len(CONTENT))

    def _send(self, content, declared):
        self.send_response(200)
        self.send_header("Content-Length", str(declared))
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    """Address of a local server: /good, /missing, /cut (short of its length), /cut-chunk."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_download_goes_into_the_first_folder(server, tmp_path):
    path = locate(source(f"{server}/good/set.tar.gz"), [tmp_path / "archives", tmp_path / "b"], progress=False)
    assert path == tmp_path / "archives" / "set.tar.gz"
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["set.tar.gz"]


def test_second_time_nothing_is_downloaded(server, tmp_path, monkeypatch):
    path = locate(source(f"{server}/good/set.tar.gz"), [tmp_path], progress=False)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *args, **kwargs: pytest.fail("downloads again"))
    assert locate(source(), [tmp_path]) == path


def test_wrong_md5_leaves_nothing(server, tmp_path):
    url = f"{server}/good/set.tar.gz"
    message = refusal(locate, source(url, md5="0" * 32), [tmp_path], progress=False)
    assert url in message and "md5" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("page", ["missing", "cut", "cut-chunk"])
def test_failed_download_leaves_nothing(server, tmp_path, page):
    url = f"{server}/{page}/set.tar.gz"
    assert url in refusal(locate, source(url), [tmp_path], progress=False)
    assert list(tmp_path.iterdir()) == []


# reading


def members(path, inner=None):
    return {str(member.path): member.read() for member in read_archive(path, inner)}


FILES = {"set/a.txt": b"a", "set/deep/b c.txt": b"b" * 100_000, "empty": b""}


def test_tar_and_zip_give_the_same_members(tmp_path):
    assert members(miniatures.write_tar(tmp_path / "set.tar.gz", FILES)) == FILES
    assert members(miniatures.write_zip(tmp_path / "set.zip", FILES)) == FILES


def test_tar_inside_a_zip(tmp_path):
    tar = miniatures.write_tar(tmp_path / "inner.tar.gz", FILES).read_bytes()
    path = miniatures.write_zip(tmp_path / "outer.zip", {"outer/inner.tar.gz": tar, "outer/other.txt": b""})
    assert members(path, inner="inner.tar.gz") == FILES
    assert list(members(path)) == ["outer/inner.tar.gz", "outer/other.txt"]


def test_folders_are_not_members(tmp_path):
    folder = tarfile.TarInfo("set")
    folder.type = tarfile.DIRTYPE
    assert members(miniatures.write_tar(tmp_path / "set.tar", {}, [folder])) == {}
    assert members(miniatures.write_zip(tmp_path / "set.zip", {"set/": b""})) == {}


# refusing: each hostile member comes last in an archive that is good otherwise


def special(name, kind, target="/etc/passwd"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


HOSTILE_TAR = {
    "absolute path": tarfile.TarInfo("/escaped.jpg"),
    "dots": tarfile.TarInfo("101_ObjectCategories/../../escaped.jpg"),
    "backslash dots": tarfile.TarInfo("101_ObjectCategories\\..\\..\\escaped.jpg"),
    "drive": tarfile.TarInfo("C:/escaped.jpg"),
    "no name": tarfile.TarInfo("."),
    "name too long": tarfile.TarInfo(f"101_ObjectCategories/bonsai/{'x' * 300}.jpg"),
    "name not text": tarfile.TarInfo("101_ObjectCategories/bonsai/\udce9.jpg"),
    "symlink": special("101_ObjectCategories/bonsai/link.jpg", tarfile.SYMTYPE),
    "hard link": special("101_ObjectCategories/bonsai/link.jpg", tarfile.LNKTYPE),
    "device": special("101_ObjectCategories/bonsai/device.jpg", tarfile.CHRTYPE),
    "fifo": special("101_ObjectCategories/bonsai/fifo.jpg", tarfile.FIFOTYPE),
}


@pytest.fixture
def refused_caltech(prepare, data_root, tmp_path):
    """refused_caltech(archive) -> the message; checks that data/ is as it was."""
    (data_root / "cifar10").mkdir(parents=True)
    (data_root / "cifar10" / "manifest.json").write_text("another set")

    def run(archive):
        message = refusal(prepare, "caltech101_16", [archive.parent], allow_miniature=True)
        assert str(archive) in message
        assert [path.name for path in data_root.rglob("*")] == ["cifar10", "manifest.json"]
        assert not list(tmp_path.rglob("*escaped*"))
        return message

    return run


@pytest.mark.parametrize("hostile", HOSTILE_TAR.values(), ids=HOSTILE_TAR.keys())
def test_hostile_tar(refused_caltech, tmp_path, hostile):
    path = tmp_path / "in" / "101_ObjectCategories.tar.gz"
    assert "refused" in refused_caltech(miniatures.write_tar(path, miniatures.caltech_files(1), [hostile]))


def test_hostile_tar_inside_a_zip(refused_caltech, tmp_path):
    files = miniatures.caltech_files(1)
    tar = miniatures.write_tar(tmp_path / "x.tar.gz", files, [HOSTILE_TAR["symlink"]]).read_bytes()
    path = miniatures.write_zip(tmp_path / "in" / "caltech-101.zip", {"caltech-101/101_ObjectCategories.tar.gz": tar})
    assert "refused" in refused_caltech(path)


def test_hostile_cifar(prepare, data_root, tmp_path):
    path = miniatures.write_tar(tmp_path / "in" / "cifar-10-python.tar.gz", {}, [HOSTILE_TAR["dots"]])
    assert "refused" in refusal(prepare, "cifar10", [path.parent], allow_miniature=True)
    assert not data_root.exists()


def zip_link():
    info = zipfile.ZipInfo("Images/class number 00/link.jpg")
    info.external_attr = 0o120777 << 16
    return info


HOSTILE_ZIP = {
    "absolute path": "/escaped.jpg",
    "dots": "Images/../../escaped.jpg",
    "backslash dots": "Images\\..\\..\\escaped.jpg",
    "symlink": zip_link(),
}


@pytest.mark.parametrize("hostile", HOSTILE_ZIP.values(), ids=HOSTILE_ZIP.keys())
def test_hostile_zip(prepare, data_root, tmp_path, hostile):
    path = miniatures.write_images_zip(tmp_path / "own.zip", images_per_class=1)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(hostile, b"/etc/passwd")
    assert "refused" in refusal(prepare, "caltech101_16", archive=str(path))
    assert not data_root.exists()
    assert not list(tmp_path.rglob("*escaped*"))


@pytest.mark.parametrize(
    ("limit", "value"), [("MAX_MEMBERS", 10), ("MAX_MEMBER_BYTES", 500), ("MAX_TOTAL_BYTES", 5000)]
)
def test_limits(refused_caltech, tmp_path, monkeypatch, limit, value):
    monkeypatch.setattr(archives, limit, value)
    path = miniatures.write_caltech(tmp_path / "in" / "101_ObjectCategories.tar.gz", images_per_class=1)
    assert "too large" in refused_caltech(path)


def test_a_bomb_of_zeros_is_refused_by_its_header(refused_caltech, tmp_path):
    """10 GB that compress to 10 MB: refused at once, nothing of it is unpacked."""
    path = tmp_path / "in" / "101_ObjectCategories.tar.gz"
    bomb = tarfile.TarInfo("101_ObjectCategories/bonsai/bomb.jpg")
    bomb.size = 10 * 2**30
    content = gzip.decompress(miniatures.write_tar(path, miniatures.caltech_files(1)).read_bytes())
    path.write_bytes(gzip.compress(content.rstrip(b"\0") + bytes(-len(content.rstrip(b"\0")) % 512) + bomb.tobuf()))
    assert "too large at '101_ObjectCategories/bonsai/bomb.jpg'" in refused_caltech(path)


def test_zip_bomb(prepare, data_root, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "own.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Images/a/bomb.jpg", bytes(50 * 2**20))
    assert (tmp_path / "own.zip").stat().st_size < 2**17
    assert "too large" in refusal(prepare, "caltech101_16", archive=str(tmp_path / "own.zip"))
    assert not data_root.exists()


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_empty_folders_count_too(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 10)
    if kind == "zip":
        path = miniatures.write_zip(tmp_path / "set.zip", {f"set/{number}/": b"" for number in range(11)})
    else:
        folders = [special(f"set/{number}", tarfile.DIRTYPE, "") for number in range(11)]
        path = miniatures.write_tar(tmp_path / "set.tar.gz", {}, folders)
    assert "more than 10 files and folders" in refusal(members, path)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_headers_that_would_fill_the_memory_are_not_read(tmp_path, kind):
    """tarfile reads such a member whole: 2 GB of zeros are 2 MB in the archive."""
    header = tarfile.TarInfo("long")
    header.type, header.size = kind, 2 * 2**20
    path = tmp_path / "set.tar.gz"
    path.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(header.size) + bytes(1024)))
    assert "a header of 2097152 bytes" in refusal(members, path)


def pax(records: bytes) -> bytes:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, len(records)
    return header.tobuf(tarfile.GNU_FORMAT) + records + bytes(-len(records) % 512)


def record(key: str, value: str) -> bytes:
    text = f" {key}={value}\n".encode()
    length = len(text) + next(n for n in range(1, 9) if len(str(len(text) + n)) == n)
    return str(length).encode() + text


OLD_SPARSE = tarfile.TarInfo("set/a.jpg")
OLD_SPARSE.type = tarfile.GNUTYPE_SPARSE
PLAIN = tarfile.TarInfo("set/a.jpg").tobuf(tarfile.GNU_FORMAT)
SLOW_TAR = {
    "a megabyte of digits": pax(b"1" * 2**20) + PLAIN,
    "an old table of holes": OLD_SPARSE.tobuf(tarfile.GNU_FORMAT),
    "a table of holes, 0.0": pax(record("GNU.sparse.size", "9")) + PLAIN,
    "a table of holes, 0.1": pax(record("GNU.sparse.map", ",".join(["1"] * 6000))) + PLAIN,
    "a table of holes, 1.0": pax(record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0")) + PLAIN,
}


@pytest.mark.parametrize("content", SLOW_TAR.values(), ids=SLOW_TAR.keys())
def test_headers_that_would_take_minutes_are_refused_in_seconds(tmp_path, content):
    (tmp_path / "set.tar.gz").write_bytes(gzip.compress(content + bytes(1024)))
    begin = time.monotonic()
    assert "set.tar.gz is not a readable" in refusal(members, tmp_path / "set.tar.gz")
    assert time.monotonic() - begin < 5


def test_long_names_of_either_format_are_read(tmp_path):
    name = "/".join(["set", "x" * 200, "é" * 60, "a.txt"])
    for number in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(tmp_path / "set.tar", "w", format=number) as tar:
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
        assert members(tmp_path / "set.tar") == {name: b"abc"}


def test_encrypted_zip(tmp_path):
    path = miniatures.write_zip(tmp_path / "set.zip", {"a.txt": b"x" * 100})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    assert "encrypted" in refusal(members, path)


def test_wrong_checksum_inside_a_zip(tmp_path):
    path = miniatures.write_zip(tmp_path / "set.zip", {"a.txt": b"x" * 1000})
    path.write_bytes(path.read_bytes().replace(b"x" * 1000, b"x" * 999 + b"y"))
    assert "CRC" in refusal(members, path)


@pytest.mark.parametrize("claimed", [10, 999, 1001, 100_000])
def test_zip_whose_header_lies_about_the_size(tmp_path, claimed):
    path = miniatures.write_zip(tmp_path / "set.zip", {"a.txt": b"x" * 1000})
    stored, real, lie = ((size).to_bytes(4, "little") for size in (1000, 1000, claimed))
    path.write_bytes(path.read_bytes().replace(stored + real, stored + lie))
    assert str(path) in refusal(members, path)


@pytest.mark.parametrize("damage", miniatures.DAMAGE.values(), ids=miniatures.DAMAGE.keys())
def test_damaged_tar(refused_caltech, tmp_path, damage):
    path = miniatures.write_caltech(tmp_path / "in" / "101_ObjectCategories.tar.gz", images_per_class=1)
    path.write_bytes(damage(path.read_bytes()))
    assert "replace it" in refused_caltech(path)


@pytest.mark.parametrize("damage", ["truncated", "bytes changed"])
def test_damaged_zip(prepare, data_root, tmp_path, damage):
    path = miniatures.write_images_zip(tmp_path / "own.zip", images_per_class=1)
    path.write_bytes(miniatures.DAMAGE[damage](path.read_bytes()))
    assert str(path) in refusal(prepare, "caltech101_16", archive=str(path))
    assert not data_root.exists()


# read to the end


def plain_tar(tmp_path) -> bytes:
    return gzip.decompress(miniatures.write_tar(tmp_path / "whole.tar.gz", FILES).read_bytes())


COMPRESS = {"tar": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("compress", COMPRESS.values(), ids=COMPRESS.keys())
def test_a_compressed_tar_in_several_streams_is_read_whole(tmp_path, compress):
    """As pigz, bgzip and `cat a.gz b.gz` write it."""
    tar = plain_tar(tmp_path)
    (tmp_path / "set.tar").write_bytes(
        b"".join(compress(tar[start : start + 50_000]) for start in (0, 50_000, 100_000))
    )
    assert members(tmp_path / "set.tar") == FILES


def after_the_second_member(tar):
    return tar[: 512 + 512 + 512 + -(-100_000 // 512) * 512]


CUTS = {
    "between members": after_the_second_member,
    "in a header": lambda tar: after_the_second_member(tar) + b"empty".ljust(100, b"\0"),
    "a header of noise": lambda tar: after_the_second_member(tar) + bytes(range(256)) * 2 + tar[-1024:],
    "another archive behind": lambda tar: tar + tar,
}


@pytest.mark.parametrize("compress", COMPRESS.values(), ids=COMPRESS.keys())
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS.keys())
def test_a_tar_that_ends_before_its_mark_or_goes_on_behind_it_is_refused(tmp_path, cut, compress):
    (tmp_path / "set.tar").write_bytes(compress(cut(plain_tar(tmp_path))))
    assert "set.tar is not a readable" in refusal(members, tmp_path / "set.tar")


def test_a_gz_cut_between_its_streams_is_refused(tmp_path):
    tar = plain_tar(tmp_path)
    (tmp_path / "set.tar.gz").write_bytes(gzip.compress(after_the_second_member(tar)))
    assert "cut short" in refusal(members, tmp_path / "set.tar.gz")


@pytest.mark.parametrize("kept", [-1, -8])
def test_a_gz_whose_checksum_is_cut_or_wrong_is_refused(tmp_path, kept):
    content = gzip.compress(plain_tar(tmp_path))
    (tmp_path / "cut.gz").write_bytes(content[:kept])
    (tmp_path / "wrong.gz").write_bytes(content[:-8] + b"12345678")
    for name in ("cut.gz", "wrong.gz"):
        assert name in refusal(members, tmp_path / name)


def test_zeros_without_end_behind_a_tar_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 4 * 2**20)
    (tmp_path / "set.tar.gz").write_bytes(gzip.compress(plain_tar(tmp_path) + bytes(8 * 2**20)))
    assert "zeros" in refusal(members, tmp_path / "set.tar.gz")
