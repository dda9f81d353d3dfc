"""Lark rules for comma-separated object members and array items, required or optional."""

from __future__ import annotations

from foundry_lite.engine.grammar.lark import Rules, literal


def write_row(rules: Rules, comma: str, members: list[tuple[str, bool]], more: str | None, *, is_filled: bool) -> str:
    """Return symbols for members, required or optional: in order, commas between them."""
    comma = literal(comma)
    rest = f"({comma} {more})*" if more else ""  # behind a member
    row = f"({more} {rest}){'' if is_filled else '?'}" if more else ""  # at the beginning
    for member, must in reversed(members):
        rest = rules.add(rest) if rest else ""
        first = f"{member} {rest}"
        if must:
            row = first
        else:
            last = first if is_filled else f"({first})?"
            row = f"{first} | {rules.add(row)}" if row else last
        rest = f"{comma} {first}" if must else f"({comma} {member})? {rest}"
    return row or '""'


def write_sequence(rules: Rules, comma: str, firsts: list[str], item: str | None, low: int, high: int | None) -> str:
    """Return from ``low`` to ``high`` items, of which the first have symbols of their own."""
    comma, count = literal(comma), len(firsts)
    row = ""
    if item is not None:
        ahead = count or 1  # the first item has no comma
        row = _times(f"{comma} {item}", max(low - ahead, 0), None if high is None else high - ahead)
        if not count:
            row = f"{item} {row}" if low else f"({item} {row})?"
    for index in reversed(range(count)):
        row = f"{f'{comma} ' if index else ''}{firsts[index]} {row}"
        row = rules.add(row if index < low else f"({row})?")
    return row


def _times(symbols: str, low: int, high: int | None) -> str:
    return "" if high == 0 else f"({symbols}){{{low},{'' if high is None else high}}}"
