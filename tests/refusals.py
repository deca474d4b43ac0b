"""What a refused preparation says and leaves."""

import pytest

from simam_repro.errors import UserError


def refusal(prepare, *args, **keys) -> str:
    with pytest.raises(UserError) as caught:
        prepare(*args, **keys)
    return str(caught.value)


def left_behind(data_root) -> list:
    return sorted(path.name for path in data_root.glob("*") if path.name != "archives")
