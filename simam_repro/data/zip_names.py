"""The names in a zip, decoded as what they are.

A zip says of a name that it is UTF-8, or nothing: then it is in the encoding of the system that packed it (GBK,
Shift-JIS, ... on a Chinese or Japanese Windows), and Python reads it as cp437. Which encoding it was follows from all
names of the archive together: the one in which they read as words.
"""

import unicodedata
import zipfile
from dataclasses import dataclass
from typing import Callable

from simam_repro.errors import UserError

_UTF8 = 0x800  # the flag of an entry
_SHOWN = 3
_ENOUGH_HANGUL = 8  # as many different characters are hardly Korean by chance


@dataclass(frozen=True)
class _Encoding:
    """`everyday(character, its bytes)`: whether texts are mostly written with such characters."""

    title: str
    codec: str
    everyday: Callable[[str, bytes], bool]


# Every two bytes are some character in several of these, but the everyday characters of each have their own range of
# first bytes. Where names read equally well in two encodings the first is taken, alphabets before these.
_EAST_ASIAN = (
    _Encoding("GBK", "gbk", lambda _, raw: 0xB0 <= raw[0] <= 0xD7 and raw[-1] >= 0xA1),
    _Encoding(
        "Shift-JIS", "cp932", lambda _, raw: len(raw) == 2 and (0x82 <= raw[0] <= 0x83 or 0x88 <= raw[0] <= 0x97)
    ),
    _Encoding("Big5", "cp950", lambda _, raw: 0xA4 <= raw[0] <= 0xC6),
    _Encoding("EUC-KR", "cp949", lambda letter, raw: "가" <= letter <= "힣" and raw[0] >= 0xB0 and raw[-1] >= 0xA1),
)
_ALPHABETS = (("cp437", "LATIN"), ("cp850", "LATIN"), ("cp1252", "LATIN"), ("cp866", "CYRILLIC"))


def decoded_names(archive: zipfile.ZipFile, say: Callable[[str], None]) -> dict[str, str]:
    """{name as Python has read it (`ZipInfo.orig_filename`): the name}.

    Args:
        say: called with a line that names the encoding, when it had to be found out.
    Raises:
        UserError: names that read as words in no encoding.
    """
    names, unknown = {}, []
    for info in archive.infolist():
        unicode_path = _unicode_path(info.extra)
        if unicode_path or info.flag_bits & _UTF8 or info.orig_filename.isascii():
            names[info.orig_filename] = unicode_path or info.orig_filename
        else:
            unknown.append(info.orig_filename)
    if unknown:
        raw = {name: name.encode("cp437") for name in unknown}
        title, codec = _encoding({part for content in raw.values() for part in content.split(b"/")}, archive.filename)
        names |= {name: content.decode(codec) for name, content in raw.items()}
        parts = dict.fromkeys(part for name in unknown for part in names[name].split("/") if not part.isascii())
        say(f"{archive.filename}: names read as {title}: {', '.join(list(parts)[:_SHOWN])}")
    return names


def _unicode_path(extra: bytes) -> str | None:
    """The name in UTF-8 that some packers put beside that in their system's encoding (Info-ZIP's field 0x7075)."""
    while len(extra) >= 4:
        kind, size = int.from_bytes(extra[:2], "little"), int.from_bytes(extra[2:4], "little")
        if kind == 0x7075:
            return extra[9 : 4 + size].decode("utf-8", "replace")
        extra = extra[4 + size :]
    return None


def _encoding(parts: set[bytes], archive: str) -> tuple[str, str]:
    """(title, codec) of the encoding in which the names, all of a path's `parts`, read best."""
    parts = {part for part in parts if not part.isascii()}
    try:
        b"/".join(parts).decode("utf-8")
        return "UTF-8", "utf-8"
    except UnicodeDecodeError:
        pass
    shares = {(codec, codec): _share_in_words(parts, codec, script) for codec, script in _ALPHABETS}
    shares |= {(one.title, one.codec): _share_everyday(parts, one) for one in _EAST_ASIAN}
    korean = ("EUC-KR", "cp949")
    if shares[korean] == 1 and len(set("".join(part.decode("cp949") for part in parts))) >= _ENOUGH_HANGUL:
        return korean
    best = max(shares, key=shares.get)
    if shares[best] < 0.5:
        raise UserError(
            f"{archive}: its names are in no encoding that reads as words ({_cut(min(parts))}): pack it anew with "
            f"names in UTF-8 (7-Zip: -mcu=on), or unpack it and name the folder: data.dataset=folder"
        )
    return best


def _share_everyday(parts: set[bytes], encoding: _Encoding) -> float:
    """The share of everyday characters among those that are not ASCII; 0 when it is another encoding for sure."""
    try:
        letters = [letter for part in parts for letter in part.decode(encoding.codec) if not letter.isascii()]
    except UnicodeDecodeError:
        return 0.0
    everyday = sum(encoding.everyday(letter, letter.encode(encoding.codec)) for letter in letters)
    rare = sum(unicodedata.category(letter) in ("Lo", "Lm") for letter in letters) - everyday
    return (everyday + max(rare, 0) / 4) / len(letters)


def _share_in_words(parts: set[bytes], codec: str, script: str) -> float:
    """The share of letters in words of one alphabet, written as words are, among the characters that are not ASCII."""
    try:
        text = " ".join(part.decode(codec) for part in parts)
    except UnicodeDecodeError:
        return 0.0
    words = "".join(letter if letter.isalpha() or letter.isascii() and letter.isalnum() else " " for letter in text)
    good = sum(_foreign(word) for word in words.split() if _is_word(word, script))
    return good / _foreign(text)


def _is_word(word: str, script: str) -> bool:
    letters = [letter for letter in word if letter.isalpha()]
    if not all(unicodedata.name(letter, "").startswith(script) for letter in letters):
        return False
    # Names of Western Europe are ASCII for the most part.
    return word in (word.lower(), word.upper(), word.capitalize()) and (
        script != "LATIN" or _foreign(word) * 2 <= len(word)
    )


def _foreign(text: str) -> int:
    return sum(not letter.isascii() for letter in text)


def _cut(name: bytes) -> str:
    return repr(name[:40])[1:]
