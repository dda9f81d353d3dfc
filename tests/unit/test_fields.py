"""Reading a JSON body: malformed ones, and where a wrong field is."""

from __future__ import annotations

from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from foundry_lite.errors import InvalidRequest, RequestTooLarge
from foundry_lite.protocol.common.decode import convert, decode_object


class Inner(Struct, forbid_unknown_fields=True):
    number: int
    word: str = "w"


class Outer(Struct, forbid_unknown_fields=True):
    inner: Inner
    several: list[Inner] = []
    by_name: dict[str, int] = {}
    short_keys: dict[Annotated[str, Meta(max_length=2)], int] = {}


class BoundedInner(Struct):
    number: Annotated[int, Meta(le=100)]


class Bounded(Struct):
    inner: BoundedInner


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
        (b'{"a": Infinity}', "byte 6"),
        (b'{"a": 1e999}', "out of range"),
        (b'{"a": "\\ud800"}', "come in pairs"),
        (b'{"a": "\\udc00 x"}', "come in pairs"),
        (b'{"a": "\xed\xa0\x80"}', "utf-8"),
        (b'\xef\xbb\xbf{"a": 1}', "byte 0"),
        (b"[" * 40_000, "recursion"),
        (b'{"a":' * 20_000, "recursion"),
        (b'{"a":' * 201 + b"1" + b"}" * 201, "more than 200 deep"),
        (b'{"a":' + b"[" * 200 + b"]" * 200 + b"}", "more than 200 deep"),
    ],
)
def test_malformed_json_is_refused_with_its_place(body: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_object(body)
    assert caught.value.message.startswith("the body is not valid JSON: ")
    assert said in f"{caught.value.message} {caught.value.hint}"
    assert "$" not in caught.value.message
    assert (caught.value.param, caught.value.code) == (None, "invalid_json")


def test_depth_is_counted_from_the_outermost_object_and_width_is_none() -> None:
    body = b'{"a":' + b"[" * 199 + b"[],[]" + b"]" * 199 + b"}"
    with pytest.raises(InvalidRequest, match="200 deep"):
        decode_object(body)
    assert decode_object(body.replace(b"[[[", b"[[", 1).replace(b"]]]", b"]]", 1))
    assert decode_object(b'{"a":[' + b",".join([b"[[1]]"] * 1000) + b"]}")


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": [' + b"1," * 300_000 + b"1]}",
        b'{"a": [' + b"{}," * 75_000 + b"1]}",
        b'{"a": [' + b"[]," * 75_000 + b"1]}",
        b'{"a": {' + b",".join(b'"%d":1' % key for key in range(75_000)) + b"}}",
        b"[" * 100_000,
    ],
    ids=["numbers", "objects", "lists", "keys", "depth"],
)
def test_a_body_that_would_take_long_to_decode_is_refused_before(body: bytes) -> None:
    with pytest.raises(RequestTooLarge, match="more than 300,000 numbers"):
        decode_object(body)


def test_one_long_text_or_many_token_ids_are_no_reason_to_refuse() -> None:
    assert decode_object(b'{"a": "' + b"A sentence, as it may be. " * 40_000 + b'"}')
    assert decode_object(b'{"a": [' + b"1," * 290_000 + b"1]}")


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
        (
            {"inner": {"number": 1}, "short_keys": {"xyz": 1}},
            "short_keys",
            "invalid_value",
            "'short_keys': expected `str` of length <= 2",
        ),
    ],
)
def test_the_first_wrong_field_is_named_as_the_caller_wrote_it(
    body: dict[str, object], param: str, code: str, message: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        convert(body, Outer, known_unsupported=frozenset({"later"}))
    assert (caught.value.param, caught.value.code, caught.value.message) == (param, code, message)


def test_a_whole_number_is_an_integer_however_it_is_written() -> None:
    body = decode_object(b'{"inner": {"number": 1.0}, "several": [{"number": 2e1}], "by_name": {"x": -0.0}}')
    assert convert(body, Outer) == Outer(Inner(1), [Inner(20)], {"x": 0})


@pytest.mark.parametrize("text", [b"1.5", b"1e300", b"-1.5e-3"])
def test_a_number_that_is_not_whole_or_beyond_all_bounds_is_none(text: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        convert(decode_object(b'{"inner": {"number": ' + text + b"}}"), Bounded)
    assert caught.value.param == "inner.number"


@pytest.mark.parametrize("name", ["a`b", "a.b", "a - at `$.x`", ""])
def test_an_unknown_field_with_an_odd_name_is_still_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        convert({"inner": {"number": 1}, name: 1}, Outer)
