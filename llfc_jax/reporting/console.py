"""What is drawn for a terminal, as text."""

import io
from collections.abc import Callable

from rich.console import Console


def written(draw: Callable[[Console], None], width: int, colour: bool) -> str:
    """What `draw` prints, without trailing spaces and a final newline.

    Args:
        draw: prints to the console that it is given.
        width: columns at hand.
        colour: whether to use a terminal's colours.

    Example:
        >>> written(lambda console: console.print("one  "), width=80, colour=False)
        'one'
    """
    buffer = io.StringIO()
    console = Console(
        file=buffer, width=width, force_terminal=colour, highlight=False, emoji=False, markup=False
    )
    draw(console)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())
