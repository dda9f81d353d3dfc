"""Query parameters of fetching a stored response or its input items."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, TypeVar

from msgspec import Meta, Struct

from foundry_lite.protocol.common.decode import convert, invalid_value
from foundry_lite.protocol.openapi import Parameter
from foundry_lite.protocol.responses.bodies import ItemList
from foundry_lite.protocol.responses.items import InputItem, ItemReference
from foundry_lite.protocol.responses.request import Include

T = TypeVar("T", bound=Struct)

_Number = Annotated[str, Meta(pattern="^[0-9]{1,9}$")]

_Place = Annotated[int, Meta(ge=0, le=10**9 - 1)]

_MOST_ITEMS = 100


class RetrieveQuery(Struct, forbid_unknown_fields=True):
    """The query of a response. Logprobs are in it if it was made with them, so that ``include`` changes nothing."""

    stream: Literal["true", "false"] = "false"
    starting_after: _Number | None = None
    include: list[Include] = []
    include_obfuscation: Literal["false"] = "false"


class ItemsQuery(Struct, forbid_unknown_fields=True):
    """The query of a response's input items."""

    limit: _Number = "20"
    order: Literal["asc", "desc"] = "desc"
    after: Annotated[str, Meta(max_length=512)] | None = None
    include: list[Include] = []


# The parameters with the types of their values: in a URL, all are strings.
_INCLUDE = Parameter("include", "Logprobs are there if the response was made with them.", list[Include])
RETRIEVE_PARAMETERS = (
    Parameter("stream", "Follow a response that is being made in the background as a stream.", bool),
    Parameter("starting_after", "The sequence number of the event that the stream goes on from.", _Place),
    Parameter("include_obfuscation", "Streams are not padded.", Literal["false"]),
    _INCLUDE,
)
ITEMS_PARAMETERS = (
    Parameter("limit", "How many items at most.", Annotated[int, Meta(ge=1, le=_MOST_ITEMS)]),
    Parameter("order", "Whether the first or the last item comes first.", Literal["asc", "desc"]),
    Parameter("after", "The id of the item before the page."),
    _INCLUDE,
)


def read_query(pairs: Iterable[tuple[str, str]], kind: type[T]) -> T:
    """Read names and values. Raises `InvalidRequest` naming the one that is unknown or wrong."""
    values: dict[str, str | list[str]] = {}
    for name, value in pairs:
        name = name.removesuffix("[]")  # how OpenAI's clients write lists
        values[name] = [*values.get(name, []), value] if name == "include" else value
    return convert(values, kind)


def page(items: Sequence[InputItem], query: ItemsQuery) -> ItemList:
    """Return the items that a query asks for. Raises `InvalidRequest`."""
    most = int(query.limit)
    if not 1 <= most <= _MOST_ITEMS:
        raise invalid_value("limit", f"{most} is not from 1 to {_MOST_ITEMS}")
    wanted = [item for item in items if not isinstance(item, ItemReference)]
    wanted = wanted if query.order == "asc" else wanted[::-1]
    ids = [item.id for item in wanted]
    if query.after is not None and query.after not in ids:
        raise invalid_value("after", f"there is no item {query.after!r} in it")
    start = 0 if query.after is None else ids.index(query.after) + 1
    shown = ids[start : start + most]
    return ItemList(
        data=list(wanted[start : start + most]),
        first_id=shown[0] if shown else None,
        last_id=shown[-1] if shown else None,
        has_more=start + most < len(ids),
    )
