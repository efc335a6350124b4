"""What a damaged file makes libraries raise, as one line."""

import contextlib
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

from llfc_jax.errors import UserError, first_line


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes a library raise into one line.

    Raises:
        UserError: it is damaged, or holds more than arrays.
    """
    try:
        yield
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)|global ([\w.]+)", str(error))
        found = next(filter(None, named.groups())) if named else "something else"
        raise UserError(
            f"{path}: expected tensors alone, as torch.save(model.state_dict(), ...) writes them; "
            f"found {found}, which was not run"
        ) from error
    except MemoryError as error:
        raise UserError(f"{path}: there is not enough memory for what it claims to hold") from error
    except Exception as error:
        raise UserError(f"{path} is damaged, or not what its name says ({first_line(error)})") from error
