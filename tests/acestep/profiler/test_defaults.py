"""Defaults of the environment and of `.env`: what is read, what is refused, who wins."""

from pathlib import Path

import pytest

from acestep.profiler.defaults import VARIABLES, Default, load, read_env_file
from harness.errors import MissingPrerequisite, UsageError


def written(folder: Path, text: str) -> Path:
    path = folder / ".env"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("KEY=value", "value"),
        ("  KEY = value  ", "value"),
        ("export KEY=value", "value"),
        ("KEY=two words # and a comment", "two words"),
        ("KEY=colour#7", "colour#7"),
        ("KEY='a # b' # c", "a # b"),
        ('KEY="it\'s"', "it's"),
        ("KEY=$HOME/`id`", "$HOME/`id`"),
        ("KEY=a=b", "a=b"),
        ("KEY=", ""),
        ("KEY= # nothing", ""),
        ("KEY=''", ""),
    ],
)
def test_a_line_is_read_and_nothing_in_it_is_run(tmp_path, line, value):
    assert read_env_file(written(tmp_path, f"# first\n\n{line}\n")) == {"KEY": value}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("no equals sign", "not KEY=VALUE"),
        ("2KEY=value", "not KEY=VALUE"),
        ("KEY+=value", "not KEY=VALUE"),
        ("=value", "not KEY=VALUE"),
        ("KEY='open", "does not end with its quote"),
        ("KEY='a' b", "does not end with its quote"),
        ("FIRST=again", "given twice"),
    ],
)
def test_a_bad_line_is_refused_by_its_number(tmp_path, line, words):
    path = written(tmp_path, f"FIRST=1\n\n{line}\n")
    with pytest.raises(UsageError, match="line 3") as caught:
        read_env_file(path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_no_file_and_a_folder_of_that_name_are_no_defaults(tmp_path):
    assert read_env_file(tmp_path / ".env") == {}
    (tmp_path / ".env").mkdir()
    assert load({}, tmp_path) == {}


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / ".env").write_bytes(b"KEY=\xff\n")
    with pytest.raises(MissingPrerequisite, match=r"\.env: cannot be read as text"):
        read_env_file(tmp_path / ".env")


@pytest.mark.parametrize(("flag", "variable"), VARIABLES.items())
def test_the_environment_wins_over_the_file_and_each_is_named(tmp_path, flag, variable):
    written(tmp_path, f"{variable}=8\nSOMEBODY_ELSES=1\n")
    assert load({}, tmp_path) == {flag: Default("8", ".env")}
    assert load({variable: ""}, tmp_path) == {flag: Default("8", ".env")}
    assert load({variable: "6"}, tmp_path) == {flag: Default("6", "env")}


def test_control_characters_reach_no_terminal(tmp_path):
    with pytest.raises(UsageError, match="ACESTEP_SOURCE: control character"):
        load({"ACESTEP_SOURCE": "a\x1b[2J"}, tmp_path)
