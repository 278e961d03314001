#!/bin/sh
# What the Docker and the Apptainer image are made of; both call this, so that they hold the same.
#   install.sh dependencies   what constraints.txt and requirements.txt name, into /opt/venv
#   install.sh package        bids_segsr from the current folder, below /package
#   install.sh models NAMES   weights, by names as `segsr models list` has them, into /opt/models
#   install.sh templates NAMES   TemplateFlow templates, NAME[:cohort-N], into /opt/templateflow
# NAMES is one argument, the names in it separated by blanks; it may be empty.
set -eu

venv=/opt/venv
pip='/opt/pip/bin/pip --python /opt/venv/bin/python --no-input --disable-pip-version-check'

# Byte code that does not depend on the time of the build. Templates of code among the packages
# are no valid Python and stay uncompiled.
compile() {
  PYTHONHASHSEED=0 $venv/bin/python -m compileall -q --invalidation-mode unchecked-hash "$1" \
    >/dev/null || true
}

dependencies() {
  python3 -m venv /opt/pip
  python3 -m venv --without-pip $venv
  $pip install --no-compile -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
  $pip install --no-compile -c constraints.txt -r requirements.txt
  # the packages' own tests, and headers and binaries of torch for those who compile against it
  packages=$(echo $venv/lib/python3.*/site-packages)
  find "$packages" -type d \( -name tests -o -path '*/torch/test' \) -prune -exec rm -rf {} +
  rm -rf "$packages/torch/include"
  find "$packages/torch/bin" -mindepth 1 ! -name torch_shm_manager -delete
  find "$packages" -name '*.a' -delete
  compile "$packages"
}

package() {
  PIP_CONSTRAINT=$PWD/constraints.txt $pip install --no-deps --no-compile --root /package .
  compile /package/opt/venv/lib
}

models() {
  mkdir -p /opt/models
  for name in $1; do
    $venv/bin/segsr models fetch "$name" --output /opt/models
  done
}

templates() {
  export TEMPLATEFLOW_HOME=/opt/templateflow
  mkdir -p $TEMPLATEFLOW_HOME
  [ -n "$1" ] || return 0
  $venv/bin/python - "$1" <<'PYTHON'
import sys

from templateflow import api

for argument in sys.argv[1].split():
    name, _, cohort = argument.partition(':cohort-')
    chosen = {'cohort': cohort or None, 'resolution': 1}
    print(api.get(name, suffix=['T1w', 'T2w'], desc=None, **chosen))
    print(api.get(name, suffix='mask', desc='brain', **chosen))
PYTHON
  # TemplateFlow lays out an empty file for whatever it could fetch
  find $TEMPLATEFLOW_HOME -type f -empty -delete
  find $TEMPLATEFLOW_HOME -type d -empty -delete
  mkdir -p $TEMPLATEFLOW_HOME
}

"$@"
