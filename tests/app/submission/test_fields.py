"""Options, as they come from queries and forms."""

from __future__ import annotations

import pytest

from app.http.errors import InvalidOption
from app.submission.fields import OptionFields


def test_equal_values_in_query_and_form_are_one() -> None:
    """In any notation: generated clients send their defaults in both places."""
    fields = OptionFields()
    for place, name, value in (
        ("query", "max_faces", "3"),
        ("form", "max_faces", "03"),
        ("query", "keep_input", "true"),
        ("form", "keep_input", "True"),
        ("query", "members", "cnn,cnn_rnn"),
        ("form", "members", "cnn"),
        ("form", "members", "cnn_rnn"),
    ):
        fields.add("query" if place == "query" else "form", name, value)
    options = fields.finish()
    assert (options.max_faces, options.keep_input, options.members) == (3, True, ("cnn", "cnn_rnn"))


def test_other_values_in_query_and_form_are_refused() -> None:
    """Neither is preferred: the option is named."""
    fields = OptionFields()
    fields.add("query", "fps", "25")
    fields.add("form", "fps", "30")
    with pytest.raises(InvalidOption, match="fps has different values in query and form") as caught:
        fields.finish()
    assert caught.value.field == "fps"


def test_an_option_that_is_no_list_comes_once_in_each_place() -> None:
    """A form with two values of it is a mistake, even of equal ones."""
    fields = OptionFields()
    fields.add("form", "fps", "25")
    with pytest.raises(InvalidOption, match="fps is given more than once"):
        fields.add("form", "fps", "25")
