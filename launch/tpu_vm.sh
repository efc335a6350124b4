#!/usr/bin/env bash
# On a TPU VM, in the checkout: installs for TPU, then runs one configuration on all its chips.
#   launch/tpu_vm.sh configs/cifar_vgg.py [--config.data.data_dir=DIR ...]
set -euo pipefail
python3 -m venv .venv
.venv/bin/pip install --quiet -e '.[tpu]'
exec .venv/bin/python -m llfc_jax.main --config="$1" "${@:2}"
