"""Names of files: what is refused before anything is done with it."""

import os

import pytest

from llfc_jax.errors import UserError
from llfc_jax.storage.paths import expand


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9"), "a\0b", "n" * 300, "~nosuchuser/x"])
def test_a_name_that_no_file_can_have_or_not_all_would_find_is_refused(name):
    with pytest.raises(UserError, match=r"^--workdir='"):
        expand(name, "--workdir")


def test_a_name_that_only_python_would_find_in_this_locale_is_refused(monkeypatch):
    monkeypatch.setattr(os, "fsencode", lambda path: str(path).encode("latin-1", "replace"))
    assert str(expand("run", "--workdir")) == "run"
    with pytest.raises(UserError, match=r"expected a name in UTF-8, and a locale"):
        expand("α=½", "--workdir")
