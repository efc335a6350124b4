"""`llfc_jax ...`, and `compare`, `export` and `reproduce` behind it: the commands under one name."""

import sys

from llfc_jax.runtime import interrupts, pages


def main() -> None:
    """What `llfc_jax`, the program that pip installs, and `python -m llfc_jax` do."""
    pages.ask_for_large()
    interrupts.install()
    from llfc_jax import compare, export, reproduce
    from llfc_jax import main as experiment

    first, *rest = sys.argv[1:] or [""]
    named = {"compare": compare.main, "export": export.main, "reproduce": reproduce.main}
    sys.exit(named[first](rest) if first in named else experiment.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
