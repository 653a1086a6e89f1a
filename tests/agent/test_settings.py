"""One list says what `ntm set` knows: the help, the refusal and what is shown agree with it."""

import pytest
from typer.testing import CliRunner

from ntmobile.agent.operations import changed_choice, shown_choices
from ntmobile.agent.records import Choices
from ntmobile.agent.settings import SETTINGS, setting_names
from ntmobile.cli.main import application
from ntmobile.errors import Remedy

OF_THE_ACCOUNT = {"keepalive", "forget"}
"""Not kept among the choices."""


def test_every_setting_that_is_shown_is_in_the_list() -> None:
    assert set(shown_choices(Choices())) | OF_THE_ACCOUNT == set(SETTINGS)


@pytest.mark.parametrize("name", sorted(set(SETTINGS) - OF_THE_ACCOUNT))
def test_every_setting_of_the_list_is_one(name: str) -> None:
    value = shown_choices(Choices())[name]

    assert changed_choice(Choices(), name, value) == Choices()


def test_an_unknown_setting_is_told_all_there_are() -> None:
    with pytest.raises(Remedy) as raised:
        changed_choice(Choices(), "colour", "red")

    assert setting_names() in raised.value.problem
    assert all(name in raised.value.problem for name in SETTINGS)


def test_help_names_every_setting() -> None:
    shown = CliRunner().invoke(application("set"), ["set", "--help"], terminal_width=300).output

    assert [name for name in SETTINGS if f"{name}=" not in shown] == []
