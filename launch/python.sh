# Sourced by the other scripts: sets `python` to one that has llfc_jax, and makes the script's comments its help.
#   $PYTHON if it is set; else the active environment's, that of the checkout's .venv, or the system's.

usage() { # what the comments at the top of the script say
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" | grep -v '^SBATCH' >&2
  exit 2
}

find_python() {
  local checkout
  checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  for python in ${PYTHON:-} python "$checkout/.venv/bin/python" python3; do
    "$python" -c 'import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ("jax", "llfc_jax"))))' 2>/dev/null && return
  done
  echo "$0: no python has llfc_jax: activate its environment, or name one by PYTHON=..." >&2
  exit 2
}

run() { # with DRY_RUN set: only print what it would run, in one write: several may print at once
  if [[ -n ${DRY_RUN:-} ]]; then
    local words
    printf -v words '%q ' "$@"
    printf '%s\n' "$words"
  else
    "$@"
  fi
}
