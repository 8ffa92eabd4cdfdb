"""Settings as people write them: read, printed and read back, or a mistake in one line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bench.plugins.method import Method
from bench.plugins.setting import Pipeline, parse
from bench.system.errors import BenchError

from .sample_methods import Plain, Sample, sample
from .sample_methods import more_methods as more_methods


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("sample", {}),
        (" sample ( ) ", {}),
        ("sample(count=7)", {"count": 7}),
        ("sample(rate=-0.25)", {"rate": -0.25}),
        ("sample(rate=2)", {"rate": 2.0}),
        ("sample(rate=1e-3, count=0)", {"rate": 0.001, "count": 0}),
        ("sample(word=layer)", {"word": "layer"}),
        ("sample(word='2-19=0.6,20=0.3')", {"word": "2-19=0.6,20=0.3"}),
        ('sample(word="true")', {"word": "true"}),
        ("sample(mode='none', limit=none)", {"mode": "none", "limit": None}),
        ("sample(layers=(16, 20))", {"layers": (16, 20)}),
        ("sample(layers=(16,))", {"layers": (16,)}),
        ("sample(switch=true)", {"switch": True}),
        ("sample(switch=False)", {"switch": False}),
    ],
)
def test_options_as_people_write_them(text: str, options: dict[str, Any]) -> None:
    assert parse(text) == [sample(**options)]


def test_settings_are_separated_by_commas_and_stages_by_plus() -> None:
    found = parse("plain, sample(count=2)+plain+sample , sample(layers=(1,2))")
    assert [[stage.name for stage in pipeline.stages] for pipeline in found] == [
        ["plain"],
        ["sample", "plain", "sample"],
        ["sample"],
    ]
    assert found[1].name == "sample+plain+sample"
    assert found[0].control and not found[1].control
    assert found[1].options[0] == {"method": "sample", **Sample(count=2).options}


def test_a_setting_is_printed_with_its_first_option_and_what_differs_from_the_defaults() -> None:
    assert str(parse("sample")[0]) == "sample(count=1)"
    assert str(parse("sample(rate=0.50, word=layer)+plain")[0]) == "sample(count=1, word=layer)+plain"
    assert str(parse("none(train=true)")[0]) == "none(train=True)"
    assert str(parse("none")[0]) == "none"


@given(
    count=st.integers(min_value=0),
    rate=st.floats(allow_nan=False, allow_infinity=False),
    word=st.one_of(st.text(), st.sampled_from(["none", "True", "lambda", "inf", "it's", "ﬁ"])),
    layers=st.lists(st.integers(), max_size=3).map(tuple),
    switch=st.booleans(),
    mode=st.sampled_from(["none", "all"]),
    limit=st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
def test_what_is_printed_reads_back(**options: Any) -> None:
    pipeline = sample(**options)
    assert parse(f"{pipeline},{pipeline}+plain") == [pipeline, Pipeline((*pipeline.stages, Plain()))]


NAMES = "There are: "


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "settings '': names no method; write it like 'tic(k=64),kse(G=4)'"),
        (",", "settings ',': cannot be read at ','; write it like 'tic(k=64),kse(G=4)'"),
        ("tic(k=4", "settings 'tic(k=4': cannot be read, it is not complete; write it like"),
        ("tic+", "settings 'tic+': cannot be read, it is not complete; write it like"),
        ("tic;kse", "settings 'tic;kse': cannot be read at ';kse'; write it like"),
        ("tic\nkse", r"settings 'tic\nkse': cannot be read at 'tic\nkse'; write it like"),
        ("tic]+[kse", "settings 'tic]+[kse': cannot be read; write it like"),
        ("t\x00ic", r"settings 't\x00ic': cannot be read"),
        ("\udcff", r"settings '\udcff': cannot be read"),
        ("tic-kse", "settings: 'tic - kse' is not a method; write it like"),
        ("'tic'", "settings: \"'tic'\" is not a method; write it like"),
        ("tci", f"settings: there is no method 'tci'; did you mean 'tic'? {NAMES}"),
        ("TIC", f"settings: there is no method 'TIC'; did you mean 'tic'? {NAMES}"),
        ("unheard_of", f"settings: there is no method 'unheard_of'. {NAMES}"),
        ("tic(4)", "settings: tic(4): options have names, as in tic(k=64)"),
        ("tic(**k)", "settings: tic(**k): options have names, as in tic(k=64)"),
        ("tic(kk=4)", "settings: tic has no option 'kk'; did you mean 'k'? There are: codebook, k, transforms"),
        ("plain(k=4)", "settings: plain has no option 'k'; plain has no options"),
        ("tic(k=4, k=8)", "settings: tic(k=4, k=8): option 'k' is given twice"),
        ("l1(rate=1)", "settings: l1(rate=1): rate should be less than 1"),
        ("tic(transforms=3)", "settings: tic(transforms=3): transforms should be 1, 2, 4 or 8"),
        ("tic(k=0)", "settings: tic(k=0): k should be greater than or equal to 1"),
        ("tic(k=2.5)", "settings: tic(k=2.5): k should be a valid integer"),
        ("tic(k='a')", "settings: tic(k=a): k should be a valid integer"),
        ("tic(k=2**3)", "settings: '2 ** 3' is not a value; quote text that is not one word"),
        ("sample(rate=nan)", "settings: sample(rate=nan): rate should be a valid number"),
        ("sample(rate=1e999)", "settings: sample(rate=inf): rate should be a finite number"),
        ("needs", "settings: needs needs a value for x, as in needs(x=...)"),
        ("l1(rates='fast')", "settings: l1(rates=fast): rates should look like '2-19=0.6,20=0.3' (layers=rate)"),
    ],
)
def test_a_mistake_is_told_in_one_line(text: str, told: str) -> None:
    with pytest.raises(BenchError) as caught:
        parse(text)
    assert str(caught.value).startswith(told) and "\n" not in str(caught.value)


def test_the_source_of_a_mistake_is_named() -> None:
    with pytest.raises(BenchError, match=r"^suite\.yaml: there is no method 'tci'"):
        parse("tci", "suite.yaml")
    with pytest.raises(BenchError, match=r"^sample\(count=-1\): count should be greater than or equal to 0$"):
        Sample(count=-1)


def test_a_required_option_is_taken_and_shown() -> None:
    assert str(parse("needs(x=3)")[0]) == "needs(x=3)"


def test_a_name_that_no_setting_could_hold_is_refused() -> None:
    for name in ("my-method", "2nd", "lambda", ""):
        with pytest.raises(TypeError, match="cannot be written in a setting"):
            type("Bad", (Method,), {"name": name})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("scratch(of=" * 1000 + "l1" + ")" * 1000, "more than 20 nested brackets"),
        ("sample(layers=" + "(" * 10**5, "characters, at most 100,000 are read"),
        ("tic(k=" + "9" * 10**6 + ")", "1,000,007 characters, at most 100,000 are read"),
        ("+".join(["l1"] * 20_000), "too many parts"),
        ("sample(rate=" + "-" * 50_000 + "1)", "too many parts"),
        (f"tic(k=0x{'f' * 5000})", "an integer of 20000 bits is too large; integers have at most 1024 bits"),
        (f"sample(layers=(1, 0x{'f' * 5000}))", "an integer of 20000 bits is too large"),
        (f"tic(k={'9' * 5000})", "cannot be read"),
        ("tic(k=10**5000)", "'10 ** 5000' is not a value"),
        (r"sample(word='\udcff')", "holds half of a character (a lone surrogate)"),
        ("sample(layers={[1]})", "is not a value"),
    ],
)
def test_a_setting_too_deep_or_too_long_is_one_short_line(text: str, told: str) -> None:
    with pytest.raises(BenchError) as caught:
        parse(text)
    assert told in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600


PIECES = ["tic", "l1", "sample", "needs", "scratch", "of", "k", "rate", "layers", "word", "(", ")", "[", "]", "{", "}",
          "+", ",", "=", "-", "*", "**", "1", "0.5", "1e999", "'", '"', "\\", "lambda", ":", "none", " ", "\n", "\0",
          "\udcff", "…", "f'", "await", "if", "not", "0x", "_", "1j", "b'x'", "...", "yield", ":=", "#"]  # fmt: skip


@given(st.text(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
@hypothesis_settings(max_examples=300)
def test_any_text_is_settings_or_one_line(text: str) -> None:
    try:
        read = parse(text)
    except BenchError as error:
        assert "\n" not in str(error)
    else:
        assert parse(",".join(map(str, read))) == read
