"""Files that may not be read."""

import os

import pytest

from llfc_jax.storage import files


@pytest.fixture
def forbid(monkeypatch):
    """Takes a path away from this user; root, as which tests may run, would keep what `chmod` takes."""
    access = os.access

    def take_away(path):
        monkeypatch.setattr(os, "access", lambda one, mode: one != path and access(one, mode))

    return take_away


@pytest.mark.parametrize("below", ["", "step", "step/array"])
def test_what_may_not_be_read_is_found_however_deep_it_lies(below, tmp_path, forbid):
    (tmp_path / "step").mkdir()
    (tmp_path / "step" / "array").touch()
    (tmp_path / "step" / "dangling").symlink_to("nowhere")
    assert files.forbidden(tmp_path) is files.forbidden(tmp_path / "absent") is None
    forbid(tmp_path / below)
    assert files.forbidden(tmp_path) == tmp_path / below
