"""A process that stands beside one of several, outlives it, and says in one line what became of it.

Where another process of a run is lost, XLA ends this one on the spot, from a thread of its own and with
pages of C++: nothing in Python runs any more. So the command is run by a second process, a copy of the first,
which waits for its end, and answers signals for both. Whichever of the two is killed, the other goes, too.
"""

import os
import signal
import subprocess
import sys
import threading

from llfc_jax.runtime import interrupts
from llfc_jax.runtime.processes import LOST, LOST_CODE

_INSIDE = "LLFC_JAX_GUARDED"


def is_inside() -> bool:
    """Whether this process is the one that is watched; from when it is asked, it ends with the other."""
    if os.environ.pop(_INSIDE, None) is None:
        return False
    threading.Thread(target=_end_with_the_other, daemon=True).start()
    return True


def run_again() -> int:
    """Run the command of this process in one that is watched.

    Returns:
        Its exit code, or another where it was ended, which a line says.
    """
    command = [sys.executable, *sys.orig_argv[1:]]
    interrupts.hold()
    watched = subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | {_INSIDE: "1"})
    interrupts.leave_to(watched.send_signal)
    code = watched.wait()
    if code >= 0:
        return code
    line = LOST if -code == signal.SIGABRT else f"ended by {signal.Signals(-code).name}; {interrupts.GOES_ON}"
    print(f"llfc_jax: {line}", file=sys.stderr, flush=True)
    return LOST_CODE


def _end_with_the_other() -> None:
    while os.read(0, 1):  # its end of the pipe is closed by the operating system
        pass
    os._exit(LOST_CODE)
