#!/usr/bin/env bash
# Several processes share one search, one per GPU: dist_search.sh CONFIG GPUS [...]
set -euo pipefail
CONFIG=$1
GPUS=$2
PYTHONPATH="$(dirname "$0")/..":${PYTHONPATH:-} \
    python "$(dirname "$0")/search.py" "$CONFIG" --workers "$GPUS" "${@:3}"
