#!/bin/bash
# One array task for every PER_TASK participants, then the group level when all of them have ended,
# however they ended. The same command again goes on where tasks were stopped.
#
#   IMAGE=bids_segsr.sif DATA=/project/bids OUT=/project/derivatives WORK=/scratch/segsr \
#     bash submit.sh [options of sbatch for the tasks, such as --gres=gpu:1 --time=0:30:00]
#
# PARTICIPANTS: file with one label a line (default: all of the dataset)
# FLAGS: further flags of bids_segsr, such as FLAGS="--modality T1w --resolution 0.8"
# Account and partition: SBATCH_ACCOUNT and SBATCH_PARTITION, which sbatch itself reads.
set -euo pipefail
: "${IMAGE:?the SIF}" "${DATA:?the BIDS dataset}" "${OUT:?the derivatives}" "${WORK:?a scratch folder}"
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$OUT" "$WORK/logs"
if [ -z "${PARTICIPANTS:-}" ]; then
  PARTICIPANTS=$WORK/participants.txt
  find "$DATA" -maxdepth 1 -name 'sub-*' -printf '%f\n' | sort > "$PARTICIPANTS"
fi
export IMAGE DATA OUT WORK PARTICIPANTS PER_TASK=${PER_TASK:-1} FLAGS=${FLAGS:-}

count=$(wc -l < "$PARTICIPANTS")
tasks=$(( (count + PER_TASK - 1) / PER_TASK ))
array=$(sbatch --parsable --array="1-$tasks" --output="$WORK/logs/%x-%A_%a.out" "$@" "$here/participant.sbatch")
group=$(sbatch --parsable --dependency="afterany:${array%%;*}" --output="$WORK/logs/%x-%A.out" "$here/group.sbatch")
echo "$count participants: job ${array%%;*}, tasks 1-$tasks; then group: job ${group%%;*}"
