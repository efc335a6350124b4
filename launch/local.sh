#!/usr/bin/env bash
# One run in several processes of this machine; on GPUs, process i has the i-th. DRY_RUN=1 prints what it starts.
#   launch/local.sh 2 cifar_vgg [--config.data.data_dir=DIR ...]
set -euo pipefail
source "$(dirname "$0")/python.sh"
[[ $# -ge 2 ]] || usage
find_python
count=$1 config=$2
shift 2
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
started=()
for ((i = 0; i < count; i++)); do
  run env CUDA_VISIBLE_DEVICES="$i" "$python" -m llfc_jax.main --config="$config" \
    --coordinator="127.0.0.1:$port" --processes="$count" --process="$i" "$@" &
  started+=($!)
done
code=0
for process in "${started[@]}"; do
  wait "$process" || code=$?
done
exit "$code"
