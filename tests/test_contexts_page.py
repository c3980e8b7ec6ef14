"""docs/teacher-contexts.md shows what the code writes."""

from __future__ import annotations

import re

import pytest
from teacher_context_examples import PAGE, written

from agents.config import parse_overrides
from agents.teachers.contexts import SOURCES, Context


def test_the_examples_are_what_the_teacher_sees():
    page = PAGE.read_text()
    assert written(page) == page, "run: python tests/teacher_context_examples.py"
    assert len(re.findall("<!-- example:", page)) >= 8


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_has_its_line(source):
    assert re.search(rf"^\| `{source}` \|", PAGE.read_text(), re.MULTILINE)


def test_the_commands_of_the_page_are_valid():
    commands = re.findall(r"--recipe\.context\.sources '(.*?)'", PAGE.read_text())
    assert commands
    for value in commands:
        assert Context(**parse_overrides(["--sources", value])).sources
