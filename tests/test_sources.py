"""The digest of a method's source: only what can change behaviour counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.plugins.registry import methods
from bench.trials import sources
from bench.trials.sources import code, source_digest

METHOD = '''
"""What the module is about."""

from typing import Annotated

class L1:
    """What the class is about."""

    rate: Annotated[float, Gt(0), "share that is removed"] = 0.5
    """What the option does."""
    scope: Annotated[Literal["layer", "network"], "where"] = "layer"

    def compress(self, model):
        """What it does."""
        names = ["a", "b"]  # why
        return names
'''
SAME = {
    "a comment": ("# why", "# why not"),
    "the docstring of the module": ("What the module is about.", "x"),
    "the docstring of the class": ('    """What the class is about."""\n', ""),
    "the docstring of a function": ("What it does.", "What is done."),
    "the docstring of an attribute": ('    """What the option does."""\n', ""),
    "the description of an option": ("share that is removed", "share of filters"),
    "blank lines": ("class L1", "\n\n\nclass L1"),
    "layout": ('["a", "b"]', "[\n            'a',\n            'b',\n        ]"),
}
OTHER = {
    "a default": ("0.5", "0.6"),
    "a value of an option": ('"network"', '"net"'),
    "a rule": ("Gt(0)", "Ge(0)"),
    "a string that is used": ('"b"', '"c"'),
    "the order": ('"a", "b"', '"b", "a"'),
}


@pytest.mark.parametrize("kind", SAME)
def test_prose_and_layout_do_not_count(kind: str) -> None:
    old, new = SAME[kind]
    assert old in METHOD and code(METHOD.replace(old, new)) == code(METHOD)


@pytest.mark.parametrize("kind", OTHER)
def test_what_can_change_behaviour_counts(kind: str) -> None:
    old, new = OTHER[kind]
    assert old in METHOD and code(METHOD.replace(old, new)) != code(METHOD)


def test_indentation_counts() -> None:
    inside, outside = "for i in x:\n    a()\n    b()\n", "for i in x:\n    a()\nb()\n"
    assert code(inside) != code(outside)
    assert code(inside) == code("for i in x:\n\n    a()  # once\n    b()\n")


def test_a_function_of_a_docstring_alone_still_counts() -> None:
    assert code('def f():\n    """Nothing."""\n') == code('def f():\n    """Less."""\n') != code("def g():\n    1\n")


def test_the_source_of_a_method_is_digested(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = methods()["l1"]

    def digest(source: str) -> str:
        monkeypatch.setattr(sources.inspect, "getsource", lambda _: source)
        return source_digest(kind)

    assert digest("x = 1  # one\n\n") == digest("x  =  1\n") != digest("x = 2\n")
    assert digest("x = (") == "unknown"


@given(st.text(st.characters(blacklist_characters="\r", blacklist_categories=["Cs"])))
def test_any_comment_leaves_the_code_as_it_is(text: str) -> None:
    line = "".join(character for character in text if character.isprintable())
    assert code(f"x = 1  # {line}\n") == code("x = 1\n")


@given(st.recursive(st.integers() | st.text() | st.none(), lambda inner: st.lists(inner), max_leaves=8))
def test_different_values_are_different_code(value: Any) -> None:
    assert code(f"x = {value!r}\n") != code(f"x = [{value!r}]\n")
