"""The one exception that users are meant to see."""


class UserError(ValueError):
    """Bad input: its message is one line that names the field or file, what was expected, what was found.

    The command prints it without a traceback and exits with code 2.
    """
