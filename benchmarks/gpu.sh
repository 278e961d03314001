#!/usr/bin/env bash
# What only a GPU can tell: the tests marked gpu, the time of a newborn's volume of 290 x 290 x 203
# voxels, and how busy a training keeps the device.
#
#     benchmarks/gpu.sh [SECONDS] [DEVICE]
#
# SECONDS (480) are shared out; DEVICE (cuda) may be cpu, to try the script itself on small volumes.
set -u
cd "$(dirname "$0")/.." || exit
seconds=${1:-480}
device=${2:-cuda}
python=${PYTHON:-python3}
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

if ! "$python" -c 'import torch' 2>/dev/null; then
  echo "$python has no torch: give another one, as PYTHON=.venv/bin/python $0" >&2
  exit 1
fi
if [ "$device" != cpu ] && ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo 'no CUDA device that torch can use: nothing was run'
  exit 0
fi

status=0
timeout -k 5 $((seconds * 35 / 100)) "$python" -m pytest -q -m gpu -p no:cacheprovider \
  --durations=5 tests/inference/test_gpu.py tests/evaluation/test_anatomical_fidelity.py || status=$?
[ "$status" = 0 ] || echo "tests: exit code $status"
timeout -k 5 $((seconds * 62 / 100)) "$python" benchmarks/gpu.py \
  --device "$device" --seconds $((seconds * 55 / 100)) || status=$?
exit "$status"
