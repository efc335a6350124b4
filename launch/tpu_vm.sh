#!/usr/bin/env bash
# On a TPU VM: installs for TPU into .venv of the checkout, then runs one configuration on all its chips.
#   launch/tpu_vm.sh cifar_vgg [--config.data.data_dir=DIR ...]
set -euo pipefail
source "$(dirname "$0")/python.sh"
[[ $# -ge 1 ]] || usage
cd "$(dirname "$0")/.."
python3 -m venv .venv
.venv/bin/pip install --quiet -e '.[tpu]'
exec .venv/bin/llfc_jax --config="$1" "${@:2}"
