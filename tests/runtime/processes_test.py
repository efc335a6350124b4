"""Where a process stands among others, and what they tell each other."""

import socket

import pytest

from llfc_jax.errors import UserError
from llfc_jax.runtime import processes
from llfc_jax.runtime.processes import Place

ALONE, ASKED = None, Place(None, None, None)
VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "SLURM_STEP_NUM_TASKS")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def as_one_of(monkeypatch, index, said):
    """Stand for one of several processes, each of which says the same in every round."""
    monkeypatch.setattr(processes, "count", lambda: len(said))
    monkeypatch.setattr(processes, "index", lambda: index)
    monkeypatch.setattr(processes, "exchange", lambda text: [*said[:index], text, *said[index + 1 :]])


@pytest.mark.parametrize(
    ("variables", "flags", "place"),
    [
        ({}, (None, None, None), ALONE),
        ({}, (None, "1", None), ALONE),
        ({}, (None, "auto", None), ASKED),
        ({}, ("a:1", "3", "2"), Place("a:1", 3, 2)),
        (
            dict(zip(VARIABLES, ("[::1]:80", "2", "0"), strict=False)),
            (None, None, None),
            Place("[::1]:80", 2, 0),
        ),
        ({"JAX_PROCESS_ID": "0"}, ("a:1", "2", "1"), Place("a:1", 2, 1)),
        ({"SLURM_STEP_NUM_TASKS": "4"}, (None, None, None), ASKED),
        ({"SLURM_STEP_NUM_TASKS": "1"}, (None, None, None), ALONE),
        ({"SLURM_STEP_NUM_TASKS": "4"}, (None, "1", None), ALONE),
    ],
)
def test_a_place_is_given_by_flags_else_by_the_environment(variables, flags, place, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert processes.find_place(*flags) == place


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ((None, "2", "0"), "--coordinator"),
        (("host", "2", "0"), "--coordinator"),
        ((":80", "2", "0"), "--coordinator"),
        (("a:0", "2", "0"), "--coordinator"),
        (("a:65536", "2", "0"), "--coordinator"),
        (("a:" + "9" * 5000, "2", "0"), "--coordinator"),
        (("a:1", None, "0"), "--processes"),
        (("a:1", "0", "0"), "--processes"),
        (("a:1", "many", "0"), "--processes"),
        (("a:1", "9" * 5000, "0"), "--processes"),
        (("a:1", "2", None), "--process"),
        (("a:1", "2", "2"), "--process"),
        ((None, None, "1"), "--processes"),
    ],
)
def test_half_a_place_is_one_line_that_names_the_flag(flags, named):
    with pytest.raises(UserError, match=f"^{named}: expected .*; found "):
        processes.find_place(*flags)


def test_a_port_that_another_program_listens_at_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with (
            pytest.raises(UserError, match=f"^--coordinator={address}: process 0 can't listen at .* in use$"),
            processes.joined(Place(address, 2, 0)),
        ):
            pass


def test_processes_that_differ_are_told_in_what(monkeypatch):
    as_one_of(monkeypatch, 0, ["", '{"jax": "1", "config.seed": 0}', '{"jax": "1", "config.seed": 1}'])
    message = "^config.seed: expected the same in all processes; found 0 in process 0 and 1 in process 2$"
    with pytest.raises(UserError, match=message):
        processes.agree({"jax": "1", "config.seed": 0})


@pytest.mark.parametrize("index", [0, 2])
def test_what_is_wrong_in_one_process_is_raised_in_all(index, monkeypatch):
    as_one_of(monkeypatch, index, ["", "no such file", ""])
    with pytest.raises(UserError, match=r"^process 1: no such file$"), processes.in_turn():
        pass


def test_the_first_process_decides_for_all(monkeypatch):
    as_one_of(monkeypatch, 1, ['{"decided": 3}', ""])
    assert processes.of_first(lambda: 4) == 3
    as_one_of(monkeypatch, 1, ['{"error": "no such file"}', ""])
    with pytest.raises(UserError, match=r"^no such file$"):
        processes.of_first(lambda: 4)
