"""The error table, row by row: what Stripe (or the network) says, and what the port makes of it."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

import httpx
import pytest

from domain.ports import NotFound, OutcomeUnknown, OutsideError, RateLimited, Refused, SetupError
from gateways import stripe_errors
from gateways.stripe import StripeGateway
from gateways.stripe_errors import Operation
from tests.contracts.stripe_gateway_support import FakeStripe, account, answer, intent, refusal, transfer

CARD = "card_error"


async def do(gateway: StripeGateway, operation: Operation) -> object:
    match operation:
        case Operation.CHARGE:
            return await gateway.charge(
                amount_minor=4900,
                currency="EUR",
                stripe_customer_id="cus_1",
                payment_method_id="pm_1",
                chain_uid="uid-1",
                description="Booking uid-1",
                idempotency_key="charge:uid-1:1",
            )
        case Operation.TRANSFER:
            return await gateway.transfer(
                amount_minor=1225,
                currency="EUR",
                destination_account_id="acct_1",
                transfer_group="uid-1",
                source_charge_id="ch_1",
                metadata={"chain_uid": "uid-1"},
                idempotency_key="transfer:uid-1:r-1",
            )
        case Operation.REFUND:
            return await gateway.refund(
                payment_intent_id="pi_1", amount_minor=1000, chain_uid="uid-1", idempotency_key="refund:uid-1:1"
            )
        case Operation.REVERSE:
            return await gateway.reverse_transfer(
                transfer_id="tr_1", amount_minor=225, idempotency_key="reversal:transfer:uid-1:r-1:1"
            )
        case Operation.CANCEL:
            return await gateway.cancel_payment("pi_1", idempotency_key="cancel:uid-1")
        case Operation.ATTACH:
            return await gateway.attach_payment_method(
                stripe_customer_id="cus_1", payment_method="pm_1", idempotency_key="attach:cus-1"
            )
        case _:
            return await gateway.get_account("acct_1")


def card(**fields: Any) -> httpx.Response:
    return refusal(402, CARD, payment_intent={"id": "pi_9", "status": "requires_payment_method"}, **fields)


def network(error: type[httpx.TransportError]) -> httpx.TransportError:
    return error("Erika Mustermann")


CHARGE, TRANSFER, REFUND, REVERSE, READ = (
    Operation.CHARGE,
    Operation.TRANSFER,
    Operation.REFUND,
    Operation.REVERSE,
    Operation.READ,
)

ROWS: list[tuple[str, Operation, httpx.Response | Exception, type[OutsideError], str, dict[str, Any]]] = [
    # name, operation, answer, our error, our code, further attributes
    ("hard decline", CHARGE, card(code="card_declined", decline_code="generic_decline"), Refused, "generic_decline",
     {"soft": False, "needs_customer": False, "object_id": "pi_9"}),
    ("stolen", CHARGE, card(code="card_declined", decline_code="stolen_card"), Refused, "stolen_card", {"soft": False}),
    ("fraud", CHARGE, card(code="card_declined", decline_code="fraudulent"), Refused, "fraudulent", {"soft": False}),
    ("do not honor", CHARGE, card(code="card_declined", decline_code="do_not_honor"), Refused, "do_not_honor",
     {"soft": False}),
    ("expired", CHARGE, card(code="expired_card"), Refused, "expired_card", {"soft": False, "needs_customer": False}),
    ("nameless decline", CHARGE, card(), Refused, "card_declined", {"soft": False}),
    ("no funds", CHARGE, card(code="card_declined", decline_code="insufficient_funds"), Refused, "insufficient_funds",
     {"soft": True, "needs_customer": False, "object_id": "pi_9"}),
    ("issuer away", CHARGE, card(code="card_declined", decline_code="issuer_not_available"), Refused,
     "issuer_not_available", {"soft": True}),
    ("processing error", CHARGE, card(code="processing_error"), Refused, "processing_error", {"soft": True}),
    ("try again later", CHARGE, card(code="card_declined", decline_code="try_again_later"), Refused,
     "try_again_later", {"soft": True}),
    ("sca", CHARGE, card(code="authentication_required", decline_code="authentication_required"), Refused,
     "authentication_required", {"soft": False, "needs_customer": True, "object_id": "pi_9"}),
    ("sca as a decline code", CHARGE, card(code="card_declined", decline_code="authentication_required"), Refused,
     "authentication_required", {"needs_customer": True, "object_id": "pi_9"}),
    ("sca failed", CHARGE, card(code="payment_intent_authentication_failure"), Refused, "authentication_required",
     {"needs_customer": True}),
    ("mandate gone", CHARGE, refusal(400, code="payment_intent_mandate_invalid"), Refused,
     "payment_intent_mandate_invalid", {"soft": False}),
    ("card refused on attach", Operation.ATTACH, refusal(402, CARD, code="card_declined"), Refused, "card_declined",
     {"object_id": None}),
    ("transfer without balance", TRANSFER, refusal(400, code="balance_insufficient"), Refused, "balance_insufficient",
     {"soft": True}),
    ("transfer without balance, 402", TRANSFER, refusal(402, code="balance_insufficient"), Refused,
     "balance_insufficient", {"soft": True}),
    ("no capability", TRANSFER, refusal(400, code="insufficient_capabilities_for_transfer"), Refused,
     "account_not_ready", {"soft": False}),
    ("destination gone", TRANSFER, refusal(400, code="resource_missing", param="destination"), Refused,
     "account_not_ready", {}),
    ("destination cut off", TRANSFER, refusal(403, code="account_invalid"), Refused, "account_not_ready", {}),
    ("destination invalid", TRANSFER, refusal(400, code="account_invalid"), Refused, "account_not_ready", {}),
    ("charge of the transfer missing", TRANSFER, refusal(400, code="resource_missing", param="source_transaction"),
     NotFound, "resource_missing", {}),
    ("reversal without balance", REVERSE, refusal(400, code="balance_insufficient"), Refused, "balance_insufficient",
     {"soft": True}),
    ("disputed", REFUND, refusal(400, code="charge_disputed"), Refused, "charge_disputed", {"soft": False}),
    ("disputed, other word", REFUND, refusal(400, code="refund_disputed_payment"), Refused, "charge_disputed", {}),
    ("already refunded", REFUND, refusal(400, code="charge_already_refunded"), Refused, "charge_already_refunded", {}),
    ("not refundable", REFUND, refusal(400, code="charge_not_refundable"), Refused, "charge_not_refundable", {}),
    ("nothing charged yet", REFUND, refusal(400, code="payment_intent_unexpected_state"), Refused,
     "payment_intent_unexpected_state", {}),
    ("refund without balance", REFUND, refusal(400, code="balance_insufficient"), Refused, "balance_insufficient",
     {"soft": True}),
    ("500", CHARGE, refusal(500, "api_error"), OutcomeUnknown, "http_500", {}),
    ("503", TRANSFER, refusal(503, "api_error"), OutcomeUnknown, "http_503", {}),
    ("500 of a proxy", CHARGE, httpx.Response(502, text="<html>Erika</html>"), OutcomeUnknown, "http_502", {}),
    ("403 of a proxy", CHARGE, httpx.Response(403, text="<html>Erika</html>"), OutcomeUnknown, "http_403", {}),
    ("200 that is no JSON", CHARGE, httpx.Response(200, text="Erika"), OutcomeUnknown, "bad_answer", {}),
    ("200 that is a list", CHARGE, httpx.Response(200, json=[1]), OutcomeUnknown, "bad_answer", {}),
    ("200 without fields", CHARGE, httpx.Response(200, json={"id": "pi_1"}), OutcomeUnknown, "bad_answer", {}),
    ("200 with a new status", CHARGE, answer(intent(status="brand_new")), OutcomeUnknown, "bad_answer", {}),
    ("key in use", CHARGE, refusal(409, "idempotency_error", code="idempotency_key_in_use"), OutcomeUnknown,
     "idempotency_key_in_use", {}),
    ("key in use, as 400", CHARGE, refusal(400, code="idempotency_key_in_use"), OutcomeUnknown,
     "idempotency_key_in_use", {}),
    ("424", CHARGE, refusal(424, "api_error"), OutcomeUnknown, "http_424", {}),
    ("read timeout", CHARGE, network(httpx.ReadTimeout), OutcomeUnknown, "timeout", {}),
    ("connect timeout", CHARGE, network(httpx.ConnectTimeout), OutcomeUnknown, "timeout", {}),
    ("no connection", CHARGE, network(httpx.ConnectError), OutcomeUnknown, "not_connected", {}),
    ("reset", CHARGE, network(httpx.ReadError), OutcomeUnknown, "connection_lost", {}),
    ("closed without an answer", CHARGE, network(httpx.RemoteProtocolError), OutcomeUnknown, "connection_lost", {}),
    ("rate limit", CHARGE, refusal(429, code="rate_limit", headers={"Retry-After": "2"}), RateLimited, "rate_limit",
     {"retry_after_seconds": 2.0}),
    ("lock timeout", CHARGE, refusal(429, code="lock_timeout"), RateLimited, "lock_timeout",
     {"retry_after_seconds": None}),
    ("lock timeout, as 400", REFUND, refusal(400, code="lock_timeout"), RateLimited, "lock_timeout", {}),
    ("rate limit, as 400", CHARGE, refusal(400, code="rate_limit"), RateLimited, "rate_limit", {}),
    ("429 of a proxy", CHARGE, httpx.Response(429, text="slow down"), RateLimited, "rate_limit",
     {"retry_after_seconds": None}),
    ("hint that is a date", CHARGE, refusal(429, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), RateLimited,
     "rate_limit", {"retry_after_seconds": None}),
    ("key with other parameters", CHARGE, refusal(400, "idempotency_error"), SetupError, "idempotency_error", {}),
    ("unknown parameter", CHARGE, refusal(400, code="parameter_unknown", param="foo[bar]"), SetupError,
     "parameter_unknown", {}),
    ("no code at all", CHARGE, refusal(400), SetupError, "invalid_request_error", {}),
    ("amount too small", CHARGE, refusal(400, code="amount_too_small"), SetupError, "amount_too_small", {}),
    ("customer missing", CHARGE, refusal(400, code="resource_missing", param="customer"), NotFound,
     "resource_missing", {}),
    ("object missing", READ, refusal(404, code="resource_missing"), NotFound, "resource_missing", {}),
    ("account cut off", READ, refusal(403, code="account_invalid"), NotFound, "account_invalid", {}),
    ("wrong key", CHARGE, refusal(401, "authentication_error"), SetupError, "authentication_error", {}),
    ("no permission", CHARGE, refusal(403, "permission_error"), SetupError, "permission_error", {}),
    ("a class of its own", CHARGE, refusal(405), OutcomeUnknown, "http_405", {}),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "said", "expected", "code", "attributes"), [row[1:] for row in ROWS],
                         ids=[row[0] for row in ROWS])  # fmt: skip
async def test_each_answer_has_one_meaning(
    operation: Operation,
    said: httpx.Response | Exception,
    expected: type[OutsideError],
    code: str,
    attributes: dict[str, Any],
) -> None:
    gateway = FakeStripe(said).gateway()
    with pytest.raises(OutsideError) as caught:
        await do(gateway, operation)
    error = caught.value
    assert isinstance(error, expected)
    assert isinstance(error, NotFound) == (expected is NotFound)
    assert error.code == code
    assert {name: getattr(error, name) for name in attributes} == attributes
    assert error.__cause__ is None, "a cause would carry Stripe's text into the history of the workflow"
    text = "".join(traceback.format_exception(error, chain=not error.__suppress_context__))
    assert "Erika" not in text
    assert "erika@example.com" not in text
    await gateway.aclose()


def test_every_row_of_the_table_is_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    hit: set[int] = set()
    original = stripe_errors.row_for

    def spy(operation: Operation, error: Any) -> stripe_errors.Row:
        row = original(operation, error)
        hit.add(stripe_errors.TABLE.index(row))
        return row

    monkeypatch.setattr(stripe_errors, "row_for", spy)

    async def run() -> None:
        for _, operation, said, *_ in ROWS:
            with pytest.raises(OutsideError):
                await do(FakeStripe(said).gateway(), operation)

    asyncio.run(run())
    assert hit == set(range(len(stripe_errors.TABLE)))


async def test_the_message_names_codes_and_ids() -> None:
    gateway = FakeStripe(card(code="card_declined", decline_code="insufficient_funds")).gateway()
    with pytest.raises(Refused) as caught:
        await do(gateway, CHARGE)
    assert str(caught.value) == (
        "insufficient_funds: charge, http 402, card_declined/insufficient_funds, pi_9, request req_1"
    )


async def test_codes_that_are_no_codes_are_dropped() -> None:
    said = refusal(400, code="Erika Mustermann", param="erika@example.com", payment_intent={"id": "pi 1; drop"})
    with pytest.raises(SetupError) as caught:
        await do(FakeStripe(said).gateway(), CHARGE)
    assert str(caught.value) == "invalid_request_error: charge, http 400, request req_1"


async def test_a_slow_answer_is_an_unknown_outcome_within_the_deadline() -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(40):  # no single read takes long, the whole does
            writer.write(b"X-Drip: 1\r\n")
            await asyncio.sleep(0.05)
        writer.close()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    gateway = StripeGateway(secret_key="sk_test_example0", base_url=address, timeout_seconds=0.3)
    started = asyncio.get_running_loop().time()
    with pytest.raises(OutcomeUnknown, match="timeout"):
        await do(gateway, CHARGE)
    assert asyncio.get_running_loop().time() - started < 2
    await gateway.aclose()
    server.close()


@pytest.mark.parametrize(
    ("state", "expected", "code"),
    [
        (intent(latest_charge={"id": "ch_1", "amount_refunded": 4500, "disputed": False}), Refused,
         "charge_already_refunded"),
        (intent(latest_charge={"id": "ch_1", "amount_refunded": 0, "disputed": True}), Refused, "charge_disputed"),
        (intent(status="processing", amount_received=0), Refused, "still_processing"),
        (intent(status="requires_payment_method", amount_received=0), Refused, "payment_intent_unexpected_state"),
        (intent(), SetupError, "amount_too_large"),
    ],
)  # fmt: skip
async def test_an_ambiguous_refund_error_is_settled_by_the_payment(
    state: dict[str, Any], expected: type[OutsideError], code: str
) -> None:
    disputes = answer({"object": "list", "data": [{"id": "du_1", "status": "needs_response"}], "has_more": False})
    stripe = FakeStripe(refusal(400, code="amount_too_large", param="amount"), answer(state), disputes)
    with pytest.raises(expected) as caught:
        await do(stripe.gateway(), REFUND)
    assert caught.value.code == code


async def test_an_error_about_the_key_is_never_settled_by_the_payment() -> None:
    stripe = FakeStripe(refusal(400, "idempotency_error"))
    with pytest.raises(SetupError, match="idempotency_error"):
        await do(stripe.gateway(), REFUND)
    assert len(stripe.requests) == 1


@pytest.mark.parametrize(("reversed_minor", "expected"), [(1100, Refused), (0, SetupError)])
async def test_an_ambiguous_reversal_error_is_settled_by_the_transfer(
    reversed_minor: int, expected: type[OutsideError]
) -> None:
    gateway = FakeStripe(refusal(400, param="amount"), answer(transfer(amount_reversed=reversed_minor))).gateway()
    with pytest.raises(expected) as caught:
        await do(gateway, REVERSE)
    assert caught.value.code == ("already_reversed" if expected is Refused else "invalid_request_error")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("succeeded", "already_succeeded"),
        ("processing", "still_processing"),
        ("canceled", None),
        ("requires_payment_method", "changed_meanwhile"),
    ],
)
async def test_a_cancel_that_comes_too_late_is_settled_by_the_payment(status: str, outcome: str | None) -> None:
    stripe = FakeStripe(refusal(400, code="payment_intent_unexpected_state"), answer(intent(status=status)))
    gateway = stripe.gateway()
    if outcome is None:
        assert (await gateway.cancel_payment("pi_1", idempotency_key="cancel:uid-1")).status == "canceled"
        return
    with pytest.raises(OutsideError) as caught:
        await gateway.cancel_payment("pi_1", idempotency_key="cancel:uid-1")
    assert caught.value.code == outcome
    assert isinstance(caught.value, OutcomeUnknown if outcome == "changed_meanwhile" else Refused)


@pytest.mark.parametrize("owner", ["cus_1", "cus_2", None])
async def test_attaching_again_is_success_for_the_same_customer_only(owner: str | None) -> None:
    gateway = FakeStripe(refusal(400), answer({"id": "pm_1", "customer": owner})).gateway()
    if owner == "cus_1":
        assert await do(gateway, Operation.ATTACH) == "pm_1"
    else:
        with pytest.raises(SetupError):
            await do(gateway, Operation.ATTACH)


@pytest.mark.parametrize(("status", "needs_customer"), [("requires_action", True), ("requires_payment_method", False)])
async def test_a_200_that_took_no_money_is_a_refusal(status: str, needs_customer: bool) -> None:
    waiting = intent(status=status, amount_received=0, latest_charge=None)
    with pytest.raises(Refused) as caught:
        await do(FakeStripe(answer(waiting)).gateway(), CHARGE)
    assert caught.value.needs_customer is needs_customer
    assert caught.value.object_id == "pi_1"


@pytest.mark.parametrize("amount_minor", [0, -1, 50.5, True, "50"])
async def test_amounts_that_are_none_never_leave(amount_minor: Any) -> None:
    stripe = FakeStripe()
    with pytest.raises(SetupError, match="bad_amount"):
        await stripe.gateway().refund(
            payment_intent_id="pi_1", amount_minor=amount_minor, chain_uid="u", idempotency_key="k"
        )
    assert stripe.requests == []


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ü", "a\r\nStripe-Account: acct_2", "a\n"])
async def test_keys_that_are_none_never_leave(key: str) -> None:
    stripe = FakeStripe()
    with pytest.raises(SetupError, match="bad_idempotency_key"):
        await stripe.gateway().create_customer(customer_id="c-1", idempotency_key=key)
    assert stripe.requests == []


@pytest.mark.parametrize("object_id", ["", "../accounts", "pi_1/cancel", "pi_1?x=1", "pi_1\n", "x" * 256])
async def test_ids_that_are_none_never_reach_a_path(object_id: str) -> None:
    stripe = FakeStripe(answer(account()))
    with pytest.raises(SetupError, match="bad_id"):
        await stripe.gateway().get_payment(object_id)
    assert stripe.requests == []


@pytest.mark.parametrize("secret_key", ["", " ", "sk test", "sk_test_x\n"])
def test_a_key_that_is_none_is_refused_at_once_and_not_shown(secret_key: str) -> None:
    with pytest.raises(ValueError, match="looks like sk_live_") as caught:
        StripeGateway(secret_key=secret_key)
    assert not secret_key.strip() or secret_key not in str(caught.value)


@pytest.mark.parametrize("base_url", ["api.stripe.com", "ftp://x", "https://api.stripe.com/v1", "https://a b"])
def test_an_address_that_is_none_is_refused_at_once(base_url: str) -> None:
    with pytest.raises(ValueError, match="address looks like"):
        StripeGateway(secret_key="sk_test_example0", base_url=base_url)
