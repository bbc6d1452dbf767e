#!/usr/bin/env bash
# Build sdist and wheel, install the wheel in a fresh environment, and run its command there.
# The environment reuses the dependencies of .venv, so that this takes seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$python" -m build --no-isolation --outdir "$folder/dist" . >/dev/null
"$python" -m venv --without-pip "$folder/venv"
fresh=$folder/venv/bin/python
"$python" -m pip --python "$fresh" install --quiet --no-deps "$folder"/dist/*.whl
# After the environment's own packages, those of .venv, without its editable mbsearch.
"$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
  >"$("$fresh" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dependencies.pth"

cd "$folder"
"$fresh" -c 'import mbsearch; assert mbsearch.__file__.startswith("'"$folder"'"), mbsearch.__file__'
"$folder/venv/bin/mbsearch" --version
"$folder/venv/bin/mbsearch" count v2.yaml
test -f "$("$fresh" -c 'import mbsearch; print(mbsearch.__path__[0])')/py.typed"
