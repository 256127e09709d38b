"""The one way to reach Temporal: connection, converter, and the search attributes that operations need."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import GrpcCompression, RPCError, RPCStatusCode

from settings import Settings

CONNECT_TIMEOUT_SECONDS: Final = 10.0
RPC_TIMEOUT: Final = timedelta(seconds=10)

_TYPES: Final[Mapping[str, IndexedValueType.ValueType]] = {
    "Bool": IndexedValueType.INDEXED_VALUE_TYPE_BOOL,
    "Datetime": IndexedValueType.INDEXED_VALUE_TYPE_DATETIME,
    "Double": IndexedValueType.INDEXED_VALUE_TYPE_DOUBLE,
    "Int": IndexedValueType.INDEXED_VALUE_TYPE_INT,
    "Keyword": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    "KeywordList": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST,
    "Text": IndexedValueType.INDEXED_VALUE_TYPE_TEXT,
}


class TemporalUnavailable(Exception):
    """Temporal did not answer. `str()` says where it was expected and what to look at."""


class SearchAttributesMissing(Exception):
    """The namespace lacks search attributes and they could not be added. `str()` names them and the command."""


async def connect(settings: Settings, *, lazy: bool = False) -> Client:
    """A client of the configured namespace, with the pydantic converter that every process has to share.

    Nothing is compressed: a chain's messages hold a few hundred bytes each, and both ends would pay for it. `lazy`
    connects at the first call instead of now: the webhook app takes events into its inbox also while Temporal
    is away. Raises TemporalUnavailable.
    """
    api_key = settings.temporal_api_key.get_secret_value() if settings.temporal_api_key else None
    try:
        return await Client.connect(
            settings.temporal_address,
            namespace=settings.temporal_namespace,
            api_key=api_key,
            tls=True if api_key or settings.temporal_tls else None,
            data_converter=pydantic_data_converter,
            grpc_compression=GrpcCompression.NONE,
            connect_timeout=timedelta(seconds=CONNECT_TIMEOUT_SECONDS),
            lazy=lazy,
        )
    except (RuntimeError, RPCError) as error:
        raise TemporalUnavailable(
            f"Temporal does not answer at {settings.temporal_address} (namespace {settings.temporal_namespace}). "
            f"Is it running, and is TEMPORAL_ADDRESS right? ({_first_line(error)})"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


async def register_search_attributes(client: Client, namespace: str, attributes: Mapping[str, str]) -> list[str]:
    """Adds what the namespace lacks of `attributes` (name → type word such as `Keyword`); returns the added names.

    A second call adds nothing. Raises SearchAttributesMissing where the server does not let us (Temporal Cloud), with
    the command to run, and ValueError for one that exists with another type: starts of workflows would fail.
    """
    have = await _existing(client, namespace)
    wrong = sorted(name for name, word in attributes.items() if name in have and have[name] != _TYPES[word])
    if wrong:
        raise ValueError(f"search attributes of namespace {namespace} exist with a wrong type: {', '.join(wrong)}")
    missing = {name: word for name, word in attributes.items() if name not in have}
    if not missing:
        return []
    request = AddSearchAttributesRequest(
        namespace=namespace, search_attributes={name: _TYPES[word] for name, word in missing.items()}
    )
    try:
        await client.operator_service.add_search_attributes(request, timeout=RPC_TIMEOUT)
    except RPCError as error:
        if error.status != RPCStatusCode.ALREADY_EXISTS:
            flags = " ".join(f"--name {name} --type {word}" for name, word in missing.items())
            raise SearchAttributesMissing(
                f"namespace {namespace} lacks search attributes and they could not be added ({error.status.name}). "
                f"Run: temporal operator search-attribute create --namespace {namespace} {flags}"
            ) from error
    return sorted(missing)


async def _existing(client: Client, namespace: str) -> Mapping[str, IndexedValueType.ValueType]:
    """Custom search attributes of the namespace; empty where the server does not tell (Temporal Cloud)."""
    try:
        answer = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=namespace), timeout=RPC_TIMEOUT
        )
    except RPCError as error:
        if error.status in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED):
            return {}
        raise
    return dict(answer.custom_attributes)
