#!/usr/bin/env bash
# One run per seed, each in a workdir of its own. Further flags go to every run.
#   launch/seeds.sh mnist_mlp "0 1 2" [--config.data.data_dir=DIR ...]
set -euo pipefail
source "$(dirname "$0")/python.sh"
[[ $# -ge 2 ]] || usage
find_python
config=$1 seeds=$2
shift 2
for seed in $seeds; do
  "$python" -m llfc_jax.main --config="$config" --config.seed="$seed" \
    --workdir="runs/$(basename "$config" .py)/seed$seed" "$@"
done
