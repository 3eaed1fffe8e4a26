"""`mlstudio rules`: from an example line to a rule, and back out again."""

from __future__ import annotations

from tests.cli.conftest import Terminal


def test_an_example_becomes_a_rule_with_better_names(terminal: Terminal) -> None:
    assert "no rules" in terminal("rules").output
    said = terminal("rules", "add", "it 12/100 L=0.53 A=91.2%", "--name", "L=loss", "-n", "A=acc").output
    assert "it {step}/{*} L={loss} A={acc}%" in said
    assert "loss 0.53, acc 91.2, at step 12" in said
    terminal("rules", "add", "gen {step} best={best}")
    assert "1  gen {step} best={best}" in terminal("rules", "list").output
    assert terminal.json("rules", "list")["rules"][1]["names"] == ["loss", "acc"]
    assert "Removed: gen" in terminal("rules", "rm", "1").output
    assert len(terminal.json("rules", "list")["rules"]) == 1


def test_what_is_no_rule_says_what_one_is(terminal: Terminal) -> None:
    assert "names no number" in terminal("rules", "add", "no numbers here", expect=2).output
    assert "OLD=NEW" in terminal("rules", "add", "L=3", "--name", "loss", expect=2).output
    assert "has no {X}" in terminal("rules", "add", "L=3", "--name", "X=loss", expect=2).output
    assert "no rule 7" in terminal("rules", "rm", "7", expect=2).output
