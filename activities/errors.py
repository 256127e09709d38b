"""Translate the ports' errors into Temporal's, once for all steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from temporalio.exceptions import ApplicationError

from domain.ports import NotFound, OutcomeUnknown, RateLimited, SetupError


@contextmanager
def told_to_temporal() -> Iterator[None]:
    """OutcomeUnknown and RateLimited are tried again (the latter after the vendor's hint); SetupError is not: it parks.

    `Refused` passes through: the step turns it into a result. The type names are what the workflow branches on.
    Messages hold codes and ids, never personal data.
    """
    try:
        yield
    except RateLimited as error:
        hint = error.retry_after_seconds
        delay = None if hint is None else timedelta(seconds=min(max(hint, 0.1), 120))
        raise ApplicationError(str(error), type="RateLimited", next_retry_delay=delay) from None
    except NotFound as error:
        raise ApplicationError(str(error), type="NotFound", non_retryable=True) from None
    except SetupError as error:
        raise ApplicationError(str(error), type="SetupError", non_retryable=True) from None
    except OutcomeUnknown as error:
        raise ApplicationError(str(error), type="OutcomeUnknown") from None
