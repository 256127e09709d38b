"""Fixtures of the starter's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.starter.world import World, world_on


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """The app on a database of its own."""
    async with world_on(database_url) as made:
        yield made
