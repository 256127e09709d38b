"""Whether a worker process really asks Temporal for work: what its log says about that comes earlier."""

from __future__ import annotations

import asyncio
import socket

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest

from bench.world import World
from domain import ids

_QUEUES = (
    (ids.TASK_QUEUE_CHAIN, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW),
    (ids.TASK_QUEUE_CHAIN, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY),
    (ids.TASK_QUEUE_STRIPE, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY),
)
_PAUSE_SECONDS = 0.02


async def until_polling(world: World, pid: int, *, patience_seconds: float = 30) -> None:
    """Returns when the server has seen this process ask for each kind of work. Raises TimeoutError."""
    identity = f"{pid}@{socket.gethostname()}"
    async with asyncio.timeout(patience_seconds):
        for queue, kind in _QUEUES:
            request = DescribeTaskQueueRequest(
                namespace=world.settings.temporal_namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
            )
            while True:
                told = await world.client.workflow_service.describe_task_queue(request)
                if any(poller.identity == identity for poller in told.pollers):
                    break
                await asyncio.sleep(_PAUSE_SECONDS)
