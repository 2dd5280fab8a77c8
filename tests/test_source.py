"""The folded source on a page: what is shown is the function itself, and it needs no style."""

import html
import inspect
import re

import pytest

from agentlib import config, sag
from agentlib.pages import show_source, source


def test_the_source_is_the_functions_own_and_folded():
    page = show_source(sag.winner, sag.SAG).data
    shown = [html.unescape(body) for body in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)]
    assert shown == [inspect.getsource(thing).rstrip() for thing in (sag.winner, sag.SAG)]
    assert page.count("<details><summary>") == page.count("</details>") == 2
    assert "<code>winner</code>, agentlib/sag.py" in page and "<code>SAG</code>" in page


def test_a_method_is_not_indented_and_no_style_or_machine_path_is_needed():
    page = show_source(sag.SAG.__post_init__).data
    assert "<pre>def __post_init__" in page and "SAG.__post_init__" in page
    assert "style" not in page and "class=" not in page and str(config.ROOT) not in page


def test_markup_in_a_source_is_escaped():
    page = show_source(source._fold).data
    assert "&lt;details&gt;&lt;summary&gt;" in page


@pytest.mark.parametrize("thing", [len, 3])
def test_what_has_no_source_is_refused(thing):
    with pytest.raises(ValueError, match="cannot be read, expected a function or a class"):
        show_source(thing)
