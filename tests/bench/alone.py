"""A broker and a database of a benchmark's own, which are thrown away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from deploy.local import stack
from deploy.local.layout import REPOSITORY, Layout
from tests.support.infrastructure import SHIFT


@asynccontextmanager
async def servers() -> AsyncIterator[Layout]:
    """Started fresh; what a benchmark that failed has left there stays for whoever looks for the reason."""
    layout = Layout(REPOSITORY / ".stack" / "bench", SHIFT + 4000)
    await asyncio.to_thread(stack.reset, layout)
    await asyncio.to_thread(lambda: stack.up(layout, infrastructure_only=True))
    try:
        yield layout
    finally:
        await asyncio.to_thread(stack.down, layout)
    await asyncio.to_thread(stack.reset, layout)
