"""Keep personal data out of failures: what a step raises becomes part of Temporal's history."""

from __future__ import annotations

import asyncio
from traceback import extract_tb
from typing import Any

import structlog
from temporalio.exceptions import ApplicationError, is_cancelled_exception
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

log = structlog.get_logger()


class PrivateErrors(Interceptor):
    """Worker interceptor: of an error that no step translated only the type leaves the process.

    A database error quotes the row that it refused, with names and addresses. The log gets the type and the places in
    the code, not the message.
    """

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Inbound(next)


class _Inbound(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            return await super().execute_activity(input)
        except (ApplicationError, asyncio.CancelledError):
            raise
        except Exception as error:
            if is_cancelled_exception(error):
                raise
            kind = type(error).__name__
            places = [
                f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in extract_tb(error.__traceback__)
            ]
            log.error("step failed", step=input.fn.__name__, error=kind, places=places[-6:])
            raise ApplicationError(f"{kind} in {input.fn.__name__}; the worker's log says where", type=kind) from None
