"""The one exception that users are meant to see, and what those of others come down to."""


class UserError(ValueError):
    """Bad input: its message is one line that names the field or file, what was expected, what was found.

    The command prints it without a traceback and exits with code 2.
    """


class DivergenceError(UserError):
    """Training whose loss is no number any more: of a sweep, the other runs go on."""


_LONGEST = 300
"""Characters of a message of others: some hold what a damaged file does."""


def first_line(error: BaseException) -> str:
    r"""The first line of an exception's message, or its type where it has none.

    Example:
        >>> first_line(OSError("no room\nfor this")), first_line(KeyError())
        ('no room', 'KeyError')
    """
    line = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def kind_of(value: object) -> str:
    """What a value of a wrong kind is called in a message.

    Example:
        >>> kind_of((1, 2)), kind_of({}), kind_of(0), kind_of(None)
        ('a tuple of 2', 'a dict', 'an int', 'None')
    """
    if value is None:
        return "None"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of shape {tuple(value.shape)}"
    name = type(value).__name__
    article = "an" if name[0].lower() in "aeiou" else "a"
    return f"{article} {name} of {len(value)}" if isinstance(value, tuple | list) else f"{article} {name}"
