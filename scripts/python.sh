#!/bin/sh
# Runs a script of this project with the newest Python from 3.13 to 3.10 that works here, else with one from uv.
# "Works": a version manager may put commands on PATH that only say which versions it has.
suits="import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, ${NEWEST_MINOR:-13}))"
for python in python3.13 python3.12 python3.11 python3.10 python3; do
  if "$python" -c "$suits" 2>/dev/null; then
    exec "$python" "$@"
  fi
done
if command -v uv >/dev/null; then
  exec uv run --quiet --no-project --python "3.${NEWEST_MINOR:-13}" "$@"
fi
say() { echo "$@" >&2; }
say "error: there is no Python 3.10 to 3.${NEWEST_MINOR:-13} on PATH. One of these brings it:"
say "  uv python install 3.12               (https://docs.astral.sh/uv; with uv on PATH make needs no other Python)"
say "  conda create -n py312 python=3.12    (then: conda activate py312)"
say "  sudo apt install python3 python3-venv    (Debian 12, Ubuntu 22.04 and newer; Fedora: dnf install python3.12)"
say "Or name one: make setup PYTHON=/path/to/python3.12"
exit 2
