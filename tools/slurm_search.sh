#!/usr/bin/env bash
# slurm_search.sh PARTITION JOB_NAME CONFIG [options of search.py]
# Every task is a worker of one search: the storage must be reachable from all nodes.
set -euo pipefail
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-8}
CPUS_PER_TASK=${CPUS_PER_TASK:-5}
SRUN_ARGS=${SRUN_ARGS:-""}
# shellcheck disable=SC2086
PYTHONPATH="$(dirname "$0")/..":${PYTHONPATH:-} \
srun -p "$PARTITION" --job-name="$JOB_NAME" \
    --gres=gpu:"$GPUS_PER_NODE" --ntasks="$GPUS" \
    --ntasks-per-node="$GPUS_PER_NODE" --cpus-per-task="$CPUS_PER_TASK" \
    --gpus-per-task=1 --kill-on-bad-exit=1 $SRUN_ARGS \
    python -u "$(dirname "$0")/search.py" "$CONFIG" "${@:4}"
