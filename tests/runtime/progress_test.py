"""What is said where nobody watches a bar, as in a file."""

import re

from llfc_jax.runtime import progress


def test_a_stage_says_how_long_it_took_when_it_is_over(capsys):
    assert list(progress.track("abc", "measure a-b on test", 3)) == ["a", "b", "c"]
    assert re.fullmatch(r"measure a-b on test: \d+\.\d s\n", capsys.readouterr().err)


def test_a_long_stage_says_now_and_then_how_far_it_is_and_what_is_left(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SILENCE_S", 0.0)
    with progress.bar("train a", 3) as advance:
        advance(1, "loss 0.500")
        advance(2, "loss 0.400")
    assert capsys.readouterr().err == "train a: 1 of 3, loss 0.500, 0 s left\n"


def test_a_short_stage_is_silent_on_its_way(capsys):
    with progress.bar("train a", 3) as advance:
        advance(1, "")
    assert capsys.readouterr().err == ""
