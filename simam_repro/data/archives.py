"""Archives: find, download, verify, and read their members. Every archive is treated as hostile.

Nothing here writes a path that an archive chose: readers get `Member`s and name the files themselves.
"""

import bz2
import gzip
import http.client
import lzma
import os
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Callable, Iterator

from tqdm import tqdm

from simam_repro.config import PROJECT_ROOT
from simam_repro.data.zip_names import decoded_names
from simam_repro.errors import UserError
from simam_repro.locks import sole_writer
from simam_repro.storage import atomic_path, checksum, disk_fails, remove_leftovers

# Far above the official archives (9,146 files and 131 MB; 8 files and 186 MB), far below a full disk.
MAX_MEMBERS = 200_000
MAX_MEMBER_BYTES = 256 * 2**20
MAX_TOTAL_BYTES = 4 * 2**30
# What tar says about one member (a long name, attributes). tarfile reads it whole, and before Python 3.11.10 and 3.12.6
# takes a time for it that grows with the square of its length: hours for a megabyte of digits, a second for this.
MAX_HEADER_BYTES = 2**14
_CHUNK = 2**20
_WINDOWS = 0  # the system that packed an entry of a zip; some packers there write backslashes between folders


@dataclass(frozen=True)
class Source:
    """An official archive. `md5` maps the file names it is known under to their checksums."""

    title: str
    url: str
    md5: dict[str, str]
    megabytes: int

    @property
    def filename(self) -> str:
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Member:
    """A regular file inside an archive; `read()` gives its bytes, within MAX_MEMBER_BYTES."""

    path: PurePosixPath
    read: Callable[[], bytes]


def archive_folders() -> list[Path]:
    """Where archives are looked for besides `<data.root>/archives`: the project's own, then SIMAM_ARCHIVES (folders
    separated by colons)."""
    named = os.environ.get("SIMAM_ARCHIVES", "").split(os.pathsep)
    return [PROJECT_ROOT / "data" / "archives", *(Path(folder) for folder in named if folder)]


def find(source: Source, folders) -> Path | None:
    """The path of the first file in or below `folders`, links followed, with a name of `source`; None without one."""
    for folder in folders:
        found = [path for path in _files_below(Path(folder)) if path.name in source.md5]
        if found:
            return min(found, key=lambda path: (list(source.md5).index(path.name), path))
    return None


def _files_below(folder: Path) -> Iterator[Path]:
    """Each folder is visited once, whatever links lead to it."""
    visited = set()
    for here, subfolders, names in os.walk(folder, followlinks=True):
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in visited:
            subfolders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        yield from (path for path in (Path(here, name) for name in names) if path.is_file())


def locate(source: Source, folders, progress: bool = True) -> Path:
    """The path of `source`: the first found below `folders`, else downloaded into the first of them.

    Args:
        folders: where to look, recursively; the first one receives the download.
    Raises:
        UserError: not found and not downloadable; says where it looked and what to do.
    """
    found = find(source, folders)
    if found:
        return found
    target = Path(folders[0]) / source.filename
    try:
        with sole_writer(target) as held:
            if not target.is_file():  # else another process has downloaded it meanwhile
                if held:
                    remove_leftovers(target)
                _download(source, target, progress)
        return target
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        if disk_fails(error):
            raise
        looked = "\n".join(f"  {folder}" for folder in folders)
        raise UserError(
            f"{source.title} is not here and could not be downloaded ({error}).\n"
            f"Looked for {' or '.join(source.md5)} in and below:\n{looked}\n"
            f"Download {source.url} ({source.megabytes} MB) into the first of these folders, or name a folder\n"
            f"that has it in SIMAM_ARCHIVES. `make demo` needs neither archive nor network."
        ) from None


def _download(source: Source, target: Path, progress: bool) -> None:
    """Download into `target`, which appears whole or not at all; an interrupted download starts anew."""
    with urllib.request.urlopen(source.url, timeout=60) as response, atomic_path(target) as temporary:
        size = int(response.headers.get("Content-Length", 0)) or None
        bar = tqdm(
            total=size, unit="B", unit_scale=True, desc=f"download {target.name}", disable=None if progress else True
        )
        with open(temporary, "wb") as file, bar:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        if checksum(temporary, "md5") != source.md5[source.filename]:
            raise UserError(f"the download of {source.url} is damaged: wrong md5; try again")


def own_archive(named: str) -> Path:
    """The archive that a config names. Raises UserError when there is no such file."""
    path = PROJECT_ROOT / named
    if not path.is_file():
        here = Path(named).resolve()
        remedy = f"; a relative path starts there: give {here}" if here.is_file() else ""
        raise UserError(f"data.archive: {path} is not a file{remedy}")
    return path


def check_official(source: Source, path: Path, warn) -> bool:
    """Whether `path` is the official archive; if not, `warn` is told what differs."""
    found, expected = checksum(path, "md5"), source.md5.get(path.name, f"one of {', '.join(source.md5.values())}")
    if found != expected:
        warn(f"{path} has md5 {found}, the official {source.title} has {expected}; its contents are checked instead")
    return found == expected


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def read_archive(path, inner: str | None = None, say: Callable[[str], None] = _to_stderr) -> Iterator[Member]:
    """Iterate over the regular files of a zip or tar archive, in its order; read each when visited.

    Args:
        inner: name of a tar archive inside a zip to read instead, when the zip holds it
            (`caltech-101.zip` holds `101_ObjectCategories.tar.gz`).
        say: is told how a zip's names are read, see `decoded_names`.
    Raises:
        UserError: not an archive, damaged, a path that leaves the archive, a link or device,
            or more than the limits of this module.
    """
    path = Path(path)
    with _as_user_error(path):
        if not zipfile.is_zipfile(path):
            with open(path, "rb") as stream:
                yield from _limited(_tar_members(stream, path), path)
            return
        with zipfile.ZipFile(path) as archive:
            nested = [info for info in archive.infolist() if inner and PurePosixPath(info.filename).name == inner]
            if not nested:
                yield from _limited(_zip_members(archive, say), path)
                return
            with archive.open(nested[0]) as stream:
                yield from _limited(_tar_members(stream, path), path)


@contextmanager
def _as_user_error(path: Path):
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # tarfile, zipfile and the decompressors raise nearly anything
        raise UserError(f"{path} is not a readable zip or tar archive ({error}); replace it") from None


def _zip_members(archive: zipfile.ZipFile, say):
    names = decoded_names(archive, say)
    for info in archive.infolist():
        name = names[info.orig_filename]
        if info.create_system == _WINDOWS:
            name = name.replace("\\", "/")
        unix_type = (info.external_attr >> 16) & 0o170000
        if name.endswith("/"):
            yield None
            continue
        if unix_type not in (0, 0o100000):
            raise UserError(f"{archive.filename}: {name!r} is a link or device; refused")
        yield name, info.file_size, lambda info=info: archive.open(info)


def _tar_members(stream: BinaryIO, archive: Path):
    # Not tarfile's own decompression: it reads no second member of a gz, and checks no checksum.
    with _decompressed(stream) as plain, tarfile.open(fileobj=plain, mode="r|", tarinfo=_TarInfo) as tar:
        for info in tar:
            if info.isdir():
                yield None
                continue
            if not info.isreg():
                raise UserError(f"{archive}: {info.name!r} is a link or device; refused")
            yield info.name, info.size, lambda info=info: tar.extractfile(info)
        _check_rest(tar.fileobj)


def _decompressed(stream: BinaryIO):
    """What a gz, bz2 or xz file holds, all of its members; any other file as it is."""
    start = stream.peek(6)
    openers = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open, b"]\0\0\x80": lzma.open}
    opener = next((opener for magic, opener in openers.items() if start.startswith(magic)), nullcontext)
    return opener(stream)


def _check_rest(stream) -> None:
    """Read what follows a tar's end, so that its checksum is compared. Raises OSError when it is not zeros."""
    for _ in range(0, MAX_TOTAL_BYTES, _CHUNK):
        rest = stream.read(_CHUNK)
        if rest.strip(b"\0"):
            raise OSError("something follows its end; are these two archives in one file?")
        if not rest:
            return
    raise OSError(f"more than {MAX_TOTAL_BYTES >> 20} MB of zeros follow its end")


class _TarInfo(tarfile.TarInfo):
    """Refuses what tarfile takes for an end but the mark of it, headers about headers too long to be read whole, and
    files with holes, whose tables may have millions of entries (no image has holes)."""

    _ABOUT = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
              tarfile.GNUTYPE_LONGLINK)  # fmt: skip

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        try:
            info = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise OSError(f"it is cut short or damaged: {error}") from None
        if info.type in cls._ABOUT and info.size > MAX_HEADER_BYTES:
            raise OSError(f"a header of {info.size} bytes")
        return info

    def _refuse_holes(self, *_):
        raise OSError(f"{self.name!r} is a file with holes (tar --sparse)")

    # tarfile's four ways to read a table of holes.
    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_holes


def _limited(entries, archive: Path) -> Iterator[Member]:
    """Members of (name, size, opener); None, a folder, only counts."""
    total = 0
    for count, entry in enumerate(entries, start=1):
        if count > MAX_MEMBERS:
            raise UserError(f"{archive}: too large: more than {MAX_MEMBERS} files and folders; refused")
        if entry is None:
            continue
        name, size, opener = entry
        path = PurePosixPath(name)
        if not name.isascii() and any("\udc80" <= letter <= "\udcff" for letter in name):
            raise UserError(
                f"{archive}: {name!r} is no UTF-8: pack it anew with names in UTF-8, or unpack it and name the folder: "
                f"data.dataset=folder; refused"
            )
        if not (_is_plain(path) and _is_plain(PurePosixPath(name.replace("\\", "/")))):
            raise UserError(f"{archive}: {name!r} would leave its folder or is no file name; refused")
        total += size
        if size > MAX_MEMBER_BYTES or total > MAX_TOTAL_BYTES:
            raise UserError(
                f"{archive}: too large at {name!r} (limits: "
                f"{MAX_MEMBER_BYTES >> 20} MB a file, {MAX_TOTAL_BYTES >> 20} MB in all); refused"
            )
        yield Member(path, lambda opener=opener, size=size: _read(opener, size, archive))


def _is_plain(path: PurePosixPath) -> bool:
    """Relative, without `..` or a drive, and of parts that are file names."""
    parts = path.parts
    if not parts or path.is_absolute() or ".." in parts or ":" in parts[0]:
        return False
    try:
        return all("\0" not in part and len(part.encode("utf-8")) <= 255 for part in parts)
    except UnicodeEncodeError:
        return False


def _read(opener: Callable[[], BinaryIO], size: int, archive: Path) -> bytes:
    with _as_user_error(archive), opener() as stream:
        # One byte more than declared tells a header that lies about the size.
        content = stream.read(size + 1)
    if len(content) != size:
        raise UserError(f"{archive}: a member has not the {size} bytes that its header says; replace the archive")
    return content
