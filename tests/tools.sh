#!/usr/bin/env bash
# Prints a folder with what a list of pinned Python wheels brings, installed there the first time: tests/tools.sh LIST.
# A wheel comes in seconds; building the same tools takes longer than all tests.
set -euo pipefail
cd "$(dirname "$0")"
LIST=$1.txt
FOLDER=${XDG_CACHE_HOME:-$HOME/.cache}/combo-tests/$1-$(sha256sum "$LIST" | cut -c1-12)

if [ ! -e "$FOLDER" ]; then
    # Debian's own, for which its package python3-venv is.
    /usr/bin/python3 -m venv "$FOLDER.new" >&2
    "$FOLDER.new/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$LIST" >&2
    mv "$FOLDER.new" "$FOLDER"
fi
echo "$FOLDER"
