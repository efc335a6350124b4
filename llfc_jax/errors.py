"""The one exception that users are meant to see, and what those of others come down to."""


class UserError(ValueError):
    """Bad input: its message is one line that names the field or file, what was expected, what was found.

    The command prints it without a traceback and exits with code 2.
    """


def first_line(error: BaseException) -> str:
    r"""The first line of an exception's message, or its type where it has none.

    Example:
        >>> first_line(OSError("no room\nfor this")), first_line(KeyError())
        ('no room', 'KeyError')
    """
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
