#!/usr/bin/env bash
# One run on all hosts of a TPU pod slice, on which launch/tpu_vm.sh has installed; --workdir and --config.data.data_dir
# are to be directories that all of them share. DRY_RUN=1 prints what it would start.
#   ZONE=us-central2-b launch/tpu_pod.sh NAME cifar_vgg --workdir=DIR [--config.data.data_dir=DIR ...]
set -euo pipefail
source "$(dirname "$0")/python.sh"
[[ $# -ge 3 && -n ${ZONE:-} ]] || usage
command=$(printf '%q ' .venv/bin/llfc_jax --config="$2" --processes=auto "${@:3}")
run gcloud compute tpus tpu-vm ssh "$1" --zone="$ZONE" --worker=all --command="cd llfc_jax && $command"
