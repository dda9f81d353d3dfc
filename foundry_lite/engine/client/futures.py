"""Answering those who wait, who may have left meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

T = TypeVar("T")


def settle(future: asyncio.Future[T], value: T) -> None:
    """Give the result to whoever still waits for it."""
    if not future.done():
        future.set_result(value)


def fail(future: asyncio.Future[Any], error: Exception) -> None:
    """Raise the error where somebody still waits."""
    if not future.done():
        future.set_exception(error)
