"""Futures that are set or failed only while somebody still waits for them."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

T = TypeVar("T")


def settle(future: asyncio.Future[T], value: T) -> None:
    """Set the result of a future, if it is not done yet."""
    if not future.done():
        future.set_result(value)


def fail(future: asyncio.Future[Any], error: Exception) -> None:
    """Set the exception of a future, if it is not done yet."""
    if not future.done():
        future.set_exception(error)
