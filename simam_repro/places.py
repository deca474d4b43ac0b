"""Where things are: in a checkout, or beside an installed package."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = PACKAGE.parent
# Of runs/, data/ and the relative paths of configs: the checkout; for an installed package the working directory.
PROJECT_ROOT = _CHECKOUT if (_CHECKOUT / "scripts" / "_checkout.py").is_file() else Path.cwd()
# Has configs/ and sweeps/.
SHIPPED = _CHECKOUT if PROJECT_ROOT == _CHECKOUT else PACKAGE / "shipped"


def find_file(path) -> Path:
    """A config or sweep file: found from here, from the project, or among those that ship, in this order.

    A file that is nowhere is returned as it was given, for the reader to refuse.
    """
    path = Path(path)
    places = (path, PROJECT_ROOT / path, SHIPPED / path)
    return next((place for place in places if os.path.isfile(place)), path)
