"""Reading a JSON body: malformed ones, and where a wrong field is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from foundry_lite.errors import InvalidRequest
from foundry_lite.protocol.fields import convert, decode_object


class Inner(Struct, forbid_unknown_fields=True):
    number: int
    word: str = "w"


class Outer(Struct, forbid_unknown_fields=True):
    inner: Inner
    several: list[Inner] = []
    by_name: dict[str, int] = {}


def test_an_object_is_decoded() -> None:
    assert decode_object(b' {"a": [1, "\xc3\xa4", null]} ') == {"a": [1, "ä", None]}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "truncated"),
        (b'{"a": ', "truncated"),
        (b"{'a': 1}", "byte 1"),
        (b'{"a": 1} x', "trailing"),
        (b'{"a": NaN}', "byte 6"),
        (b'{"a": "\xff"}', "utf-8"),
        (b'{"a": "\\ud800"}', ""),
        (b"[" * 100_000, "recursion"),
        (b'{"a":' * 100_000, "recursion"),
    ],
)
def test_malformed_json_is_refused_with_its_place(body: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_object(body)
    assert caught.value.message.startswith("the body is not valid JSON: ")
    assert said in caught.value.message
    assert (caught.value.param, caught.value.code) == (None, "invalid_json")


@pytest.mark.parametrize(("body", "kind"), [(b"[]", "list"), (b"1", "int"), (b'"x"', "str"), (b"null", "NoneType")])
def test_json_that_is_no_object_is_refused_by_its_kind(body: bytes, kind: str) -> None:
    with pytest.raises(InvalidRequest, match=f"must be a JSON object, not {kind}"):
        decode_object(body)


@given(st.binary(max_size=40))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    try:
        assert isinstance(decode_object(body), dict)
    except InvalidRequest as error:
        assert error.code == "invalid_json"


def test_a_good_body_becomes_the_struct() -> None:
    body = {"inner": {"number": 1}, "several": [{"number": 2, "word": "x"}]}
    assert convert(body, Outer) == Outer(Inner(1), [Inner(2, "x")])


@pytest.mark.parametrize(
    ("body", "param", "code", "message"),
    [
        ({}, "inner", "missing_required_parameter", "'inner' is required"),
        ({"inner": {}}, "inner.number", "missing_required_parameter", "'inner.number' is required"),
        (
            {"inner": {"number": "1"}},
            "inner.number",
            "invalid_value",
            "'inner.number': expected `int`, got `str`",
        ),
        (
            {"inner": {"number": 1}, "several": [{"number": 1}, {"number": None}]},
            "several[1].number",
            "invalid_value",
            "'several[1].number': expected `int`, got `null`",
        ),
        (
            {"inner": {"number": 1}, "several": [{"number": 1, "odd": 1}]},
            "several[0].odd",
            "unknown_parameter",
            "unknown field 'several[0].odd'",
        ),
        ({"inner": {"number": 1}, "odd": 1}, "odd", "unknown_parameter", "unknown field 'odd'"),
        (
            {"inner": {"number": 1}, "later": 1},
            "later",
            "unsupported_parameter",
            "'later' is not supported by foundry-lite yet",
        ),
        (
            {"inner": {"number": 1, "later": 1}},
            "inner.later",
            "unknown_parameter",
            "unknown field 'inner.later'",
        ),
        (
            {"inner": {"number": 1}, "by_name": {"x": "1"}},
            "by_name",
            "invalid_value",
            "'by_name': expected `int`, got `str`",
        ),
    ],
)
def test_the_first_wrong_field_is_named_as_the_caller_wrote_it(
    body: dict[str, object], param: str, code: str, message: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        convert(body, Outer, known_unsupported=frozenset({"later"}))
    assert (caught.value.param, caught.value.code, caught.value.message) == (param, code, message)


@pytest.mark.parametrize("name", ["a`b", "a.b", "a - at `$.x`", ""])
def test_an_unknown_field_with_an_odd_name_is_still_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        convert({"inner": {"number": 1}, name: 1}, Outer)
