"""Money that comes back or goes on: refunds, disputes, transfers, reversals, payouts, and the balances they move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import stripe

from tests.contracts.sandbox_stripe_support import Sandbox, checked, running, unique, wait_for

FEE = 99
DISPUTE_FEE = 2000


@pytest.fixture(scope="module", name="sandbox")
def sandbox_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    yield from running(
        tmp_path_factory.mktemp("money"), "--available-after-seconds", "600", "--refund-change-after-seconds", "60"
    )


@pytest.fixture(autouse=True, name="_checked")
def checked_fixture(sandbox: Sandbox) -> Iterator[None]:
    yield from checked(sandbox)


def total_minor(sandbox: Sandbox, account: str | None = None) -> int:
    """Available and pending euros together."""
    options: Any = {"stripe_account": account} if account else {}
    balance = sandbox.client.v1.balance.retrieve({}, options)
    ready = sum(part.amount for part in balance.available if part.currency == "eur")
    return ready + sum(part.amount for part in balance.pending if part.currency == "eur")


def send(sandbox: Sandbox, account: stripe.Account, **more: Any) -> stripe.Transfer:
    """A transfer of euros."""
    form: Any = {"currency": "eur", "destination": account.id, **more}
    return sandbox.client.v1.transfers.create(form)


def refusal(call: Any, *arguments: Any) -> tuple[str | None, str | None]:
    """(code, param) of the 400 that a call must end in."""
    with pytest.raises(stripe.InvalidRequestError) as caught:
        call(*arguments)
    assert caught.value.http_status == 400
    assert caught.value.error is not None
    return caught.value.error.code, getattr(caught.value.error, "param", None)


def test_a_refund_in_pieces_never_exceeds_the_charge(sandbox: Sandbox) -> None:
    refunds = sandbox.client.v1.refunds
    before = total_minor(sandbox)
    intent = sandbox.pay()
    first = refunds.create({"payment_intent": intent.id, "amount": 1000, "metadata": {"k": "1"}})
    assert (first.status, first.amount, first.charge) == ("succeeded", 1000, intent.latest_charge)
    assert refusal(refunds.create, {"payment_intent": intent.id, "amount": 3901}) == (None, "amount")
    rest = refunds.create({"charge": str(intent.latest_charge), "reason": "requested_by_customer"})
    assert rest.amount == 3900
    assert refusal(refunds.create, {"payment_intent": intent.id})[0] == "charge_already_refunded"
    charge = sandbox.charge_of(intent)
    assert (charge.amount_refunded, charge.refunded) == (4900, True)
    assert [refund.id for refund in refunds.list({"payment_intent": intent.id}).data] == [rest.id, first.id]
    assert refunds.retrieve(first.id).id == first.id
    assert total_minor(sandbox) == before - FEE


def test_an_unpaid_intent_cannot_be_refunded(sandbox: Sandbox) -> None:
    intent = sandbox.client.v1.payment_intents.create({"amount": 4900, "currency": "eur"})
    refunds = sandbox.client.v1.refunds
    assert refusal(refunds.create, {"payment_intent": intent.id})[0] == "payment_intent_unexpected_state"
    assert refusal(refunds.create, {"payment_intent": "pi_unknown"}) == ("resource_missing", "payment_intent")
    assert refusal(refunds.create, {})[0] == "parameter_missing"


def test_a_refund_can_fail_later(sandbox: Sandbox) -> None:
    intent = sandbox.pay("pm_card_refundFail")
    before = total_minor(sandbox)
    refund = sandbox.client.v1.refunds.create({"payment_intent": intent.id})
    assert refund.status == "succeeded"
    assert total_minor(sandbox) == before - 4900
    sandbox.control("clock", advance_seconds=60)
    failed = sandbox.client.v1.refunds.retrieve(refund.id, {"expand": ["failure_balance_transaction"]})
    assert (failed.status, failed.failure_reason) == ("failed", "lost_or_stolen_card")
    assert isinstance(failed.failure_balance_transaction, stripe.BalanceTransaction)
    assert failed.failure_balance_transaction.type == "refund_failure"
    charge = sandbox.charge_of(intent)
    assert (charge.amount_refunded, charge.refunded) == (0, False)
    assert total_minor(sandbox) == before
    types = [event.type for event in sandbox.client.v1.events.list({"limit": 3}).data]
    assert types == ["refund.failed", "charge.refund.updated", "refund.updated"]


def test_a_refund_fails_on_order_once(sandbox: Sandbox) -> None:
    intent = sandbox.pay()
    before = total_minor(sandbox)
    refund = sandbox.client.v1.refunds.create({"payment_intent": intent.id})
    for _ in range(2):
        assert sandbox.control(f"refunds/{refund.id}", status="failed", reason="unknown")["status"] == "failed"
    assert total_minor(sandbox) == before


def test_a_pending_refund_succeeds_later(sandbox: Sandbox) -> None:
    intent = sandbox.pay("pm_card_pendingRefund")
    refund = sandbox.client.v1.refunds.create({"payment_intent": intent.id})
    assert (refund.status, refund.pending_reason) == ("pending", "processing")
    sandbox.control("clock", advance_seconds=60)
    assert sandbox.client.v1.refunds.retrieve(refund.id).status == "succeeded"


@pytest.mark.parametrize(
    ("token", "status", "taken"),
    [
        ("pm_card_createDispute", "needs_response", 4900 + DISPUTE_FEE),
        ("pm_card_createDisputeInquiry", "warning_needs_response", 0),
    ],
)
def test_a_test_card_brings_its_dispute(sandbox: Sandbox, token: str, status: str, taken: int) -> None:
    before = total_minor(sandbox)
    intent = sandbox.pay(token)
    disputes = wait_for(lambda: sandbox.client.v1.disputes.list({"payment_intent": intent.id}).data, "the dispute")
    assert (disputes[0].status, disputes[0].charge) == (status, intent.latest_charge)
    assert sandbox.charge_of(intent).disputed
    assert total_minor(sandbox) == before + 4900 - FEE - taken


@pytest.mark.parametrize(("verdict", "back"), [("won", 4900), ("lost", 0)])
def test_a_dispute_is_won_or_lost(sandbox: Sandbox, verdict: str, back: int) -> None:
    intent = sandbox.pay()
    before = total_minor(sandbox)
    opened = sandbox.control("disputes", payment_intent=intent.id, reason="duplicate")
    assert total_minor(sandbox) == before - 4900 - DISPUTE_FEE
    assert refusal(sandbox.client.v1.refunds.create, {"payment_intent": intent.id})[0] == "charge_disputed"
    sandbox.control(f"disputes/{opened['id']}", status="under_review")
    sandbox.control(f"disputes/{opened['id']}", status=verdict)
    dispute = sandbox.client.v1.disputes.retrieve(opened["id"])
    assert dispute.status == verdict
    assert len(dispute.balance_transactions) == (2 if verdict == "won" else 1)
    assert total_minor(sandbox) == before - 4900 - DISPUTE_FEE + back
    answer = sandbox.http.post(f"/_sandbox/disputes/{opened['id']}", json={"status": "needs_response"})
    assert answer.status_code == 400


def test_an_inquiry_moves_money_only_when_it_escalates(sandbox: Sandbox) -> None:
    intent = sandbox.pay()
    before = total_minor(sandbox)
    opened = sandbox.control("disputes", charge=intent.latest_charge, status="warning_needs_response", amount_minor=900)
    assert total_minor(sandbox) == before
    assert opened["is_charge_refundable"]
    sandbox.control(f"disputes/{opened['id']}", status="needs_response")
    assert total_minor(sandbox) == before - 900 - DISPUTE_FEE


@pytest.mark.parametrize(("evidence", "status"), [("winning_evidence", "won"), ("losing_evidence", "lost")])
def test_evidence_decides_a_dispute(sandbox: Sandbox, evidence: str, status: str) -> None:
    opened = sandbox.control("disputes", charge=sandbox.pay().latest_charge)
    disputes = sandbox.client.v1.disputes
    kept = disputes.update(opened["id"], {"evidence": {"customer_name": "Example"}, "submit": False})
    assert kept.status == "needs_response"
    assert disputes.update(opened["id"], {"evidence": {"uncategorized_text": evidence}}).status == status
    assert refusal(disputes.close, opened["id"])[0] == "dispute_already_closed"


def test_closing_a_dispute_loses_it(sandbox: Sandbox) -> None:
    opened = sandbox.control("disputes", charge=sandbox.pay().latest_charge)
    assert sandbox.client.v1.disputes.close(opened["id"]).status == "lost"


def test_onboarding_by_control_and_by_link(sandbox: Sandbox) -> None:
    accounts = sandbox.client.v1.accounts
    account = sandbox.reseller(None)
    assert account.controller is not None
    assert account.controller.losses is not None
    assert account.controller.losses.payments == "application"

    def transfers() -> str | None:
        capabilities = accounts.retrieve(account.id).capabilities
        assert capabilities is not None
        return capabilities.transfers

    assert transfers() == "inactive"
    sandbox.control(f"accounts/{account.id}", state="submitted")
    assert transfers() == "pending"
    link = sandbox.client.v1.account_links.create(
        {
            "account": account.id,
            "type": "account_onboarding",
            "refresh_url": "https://example.com/again",
            "return_url": "https://example.com/done",
        }
    )
    page = sandbox.http.get(link.url)
    assert (page.status_code, page.headers["location"]) == (303, "https://example.com/done")
    assert transfers() == "active"
    assert accounts.retrieve(account.id).payouts_enabled
    sandbox.control(f"accounts/{account.id}", state="restricted")
    assert transfers() == "inactive"
    assert accounts.retrieve(account.id).requirements is not None
    listed = accounts.capabilities.list(account.id)
    assert [(capability.id, capability.status) for capability in listed.data] == [("transfers", "inactive")]
    sandbox.control("clock", advance_seconds=301)
    assert sandbox.http.get(link.url).headers["location"] == "https://example.com/again"


def test_a_deauthorized_account_is_out_of_reach(sandbox: Sandbox) -> None:
    account = sandbox.reseller()
    sandbox.control(f"accounts/{account.id}", state="deauthorized")
    with pytest.raises(stripe.PermissionError):
        sandbox.client.v1.accounts.retrieve(account.id)
    with pytest.raises(stripe.PermissionError):
        sandbox.client.v1.balance.retrieve({}, {"stripe_account": account.id})
    wanted = {"amount": 100, "currency": "eur", "destination": account.id}
    assert refusal(sandbox.client.v1.transfers.create, wanted) == ("resource_missing", "destination")


def test_a_transfer_needs_an_available_balance_unless_it_names_its_charge(sandbox: Sandbox) -> None:
    transfers = sandbox.client.v1.transfers
    account = sandbox.reseller()
    sandbox.control("clock", advance_seconds=600)
    sandbox.control("balance", amount_minor=-sandbox.available_minor())
    group = unique("booking")
    intent = sandbox.pay(transfer_group=group)
    wanted: Any = {"amount": 1225, "currency": "eur", "destination": account.id, "transfer_group": group}
    assert refusal(transfers.create, wanted)[0] == "balance_insufficient"
    sourced = send(sandbox, account, amount=1225, transfer_group=group, source_transaction=intent.latest_charge)
    assert (sourced.amount, sourced.amount_reversed, sourced.reversed) == (1225, 0, False)
    assert sandbox.available_minor(account.id) == 0
    assert total_minor(sandbox, account.id) == 1225
    sandbox.control("clock", advance_seconds=600)
    assert sandbox.available_minor(account.id) == 1225
    assert sandbox.available_minor() == 4900 - FEE - 1225
    plain = transfers.create(wanted)
    assert sandbox.available_minor(account.id) == 2450
    assert [t.id for t in transfers.list({"transfer_group": group}).data] == [plain.id, sourced.id]
    assert [t.id for t in transfers.list({"destination": account.id}).data] == [plain.id, sourced.id]
    assert sandbox.client.v1.charges.list({"transfer_group": group}).data[0].id == intent.latest_charge


def test_the_transfers_of_a_charge_may_not_exceed_it(sandbox: Sandbox) -> None:
    transfers = sandbox.client.v1.transfers
    account, intent = sandbox.reseller(), sandbox.pay()
    wanted: Any = {"currency": "eur", "destination": account.id, "source_transaction": intent.latest_charge}
    send(sandbox, account, amount=4000, source_transaction=intent.latest_charge)
    assert refusal(transfers.create, {**wanted, "amount": 901})[1] == "amount"
    second = send(sandbox, account, amount=900, source_transaction=intent.latest_charge)
    assert second.transfer_group == f"group_{intent.id}"
    failed = sandbox.client.v1.payment_intents.create({"amount": 4900, "currency": "eur"})
    with pytest.raises(stripe.CardError):
        sandbox.client.v1.payment_intents.confirm(failed.id, {"payment_method": "pm_card_chargeDeclined"})
    charge = sandbox.client.v1.payment_intents.retrieve(failed.id).latest_charge
    refused = refusal(transfers.create, {**wanted, "amount": 1, "source_transaction": charge})
    assert refused[1] == "source_transaction"
    assert refusal(transfers.create, {**wanted, "amount": 1, "currency": "usd"})[1] == "currency"


@pytest.mark.parametrize("state", [None, "submitted", "restricted", "rejected"])
def test_an_account_without_the_capability_gets_nothing(sandbox: Sandbox, state: str | None) -> None:
    account, intent = sandbox.reseller(state), sandbox.pay()
    wanted = {
        "amount": 100,
        "currency": "eur",
        "destination": account.id,
        "source_transaction": intent.latest_charge,
    }
    code, _ = refusal(sandbox.client.v1.transfers.create, wanted)
    assert code == "insufficient_capabilities_for_transfer"


def test_a_transfer_is_reversed_in_pieces(sandbox: Sandbox) -> None:
    transfers = sandbox.client.v1.transfers
    account, intent = sandbox.reseller(), sandbox.pay()
    mine = total_minor(sandbox)
    made = transfers.create(
        {"amount": 1225, "currency": "eur", "destination": account.id, "source_transaction": str(intent.latest_charge)}
    )
    first = transfers.reversals.create(made.id, {"amount": 225, "metadata": {"k": "1"}})
    partly = transfers.retrieve(made.id)
    assert (partly.amount_reversed, partly.reversed) == (225, False)
    assert [reversal.id for reversal in partly.reversals.data] == [first.id]
    assert refusal(transfers.reversals.create, made.id, {"amount": 1001})[1] == "amount"
    rest = transfers.reversals.create(made.id)
    assert rest.amount == 1000
    assert transfers.retrieve(made.id).reversed
    assert refusal(transfers.reversals.create, made.id)[0] == "transfer_already_reversed"
    assert [reversal.id for reversal in transfers.reversals.list(made.id).data] == [rest.id, first.id]
    assert transfers.reversals.retrieve(made.id, first.id).amount == 225
    assert total_minor(sandbox, account.id) == 0
    assert total_minor(sandbox) == mine


def test_a_reversal_needs_money_at_the_destination(sandbox: Sandbox) -> None:
    account, intent = sandbox.reseller(), sandbox.pay("pm_card_bypassPending")
    made = sandbox.client.v1.transfers.create(
        {"amount": 1225, "currency": "eur", "destination": account.id, "source_transaction": str(intent.latest_charge)}
    )
    payout = sandbox.client.v1.payouts.create({"amount": 1225, "currency": "eur"}, {"stripe_account": account.id})
    assert refusal(sandbox.client.v1.transfers.reversals.create, made.id)[0] == "balance_insufficient"
    sandbox.control(f"payouts/{payout.id}", status="failed")
    assert sandbox.client.v1.transfers.reversals.create(made.id).amount == 1225


def test_a_payout_is_paid_and_fails_later(sandbox: Sandbox) -> None:
    account = sandbox.reseller()
    options: Any = {"stripe_account": account.id}
    payouts = sandbox.client.v1.payouts
    sandbox.control("balance", amount_minor=5000, account=account.id)
    assert refusal(payouts.create, {"amount": 5001, "currency": "eur"}, options)[0] == "balance_insufficient"
    payout = payouts.create({"amount": 5000, "currency": "eur"}, options)
    assert payout.status == "pending"
    assert sandbox.available_minor(account.id) == 0
    sandbox.control("clock", advance_seconds=2 * 86_400)
    assert payouts.retrieve(payout.id, {}, options).status == "paid"
    sandbox.control(f"payouts/{payout.id}", status="failed", failure_code="no_account")
    failed = payouts.retrieve(payout.id, {}, options)
    assert (failed.status, failed.failure_code) == ("failed", "no_account")
    assert sandbox.available_minor(account.id) == 5000
    with pytest.raises(stripe.InvalidRequestError):
        payouts.retrieve(payout.id)
    assert [found.id for found in payouts.list({"status": "failed"}, options).data] == [payout.id]
    events = sandbox.client.v1.events.list({"type": "payout.*"}, options).data
    assert [event.type for event in events] == ["payout.failed", "payout.paid", "payout.created"]
    assert {event.account for event in events} == {account.id}


def test_a_pending_payout_can_be_cancelled(sandbox: Sandbox) -> None:
    account = sandbox.reseller()
    options: Any = {"stripe_account": account.id}
    sandbox.control("balance", amount_minor=700, account=account.id)
    payout = sandbox.client.v1.payouts.create({"amount": 700, "currency": "eur"}, options)
    assert sandbox.client.v1.payouts.cancel(payout.id, {}, options).status == "canceled"
    assert sandbox.available_minor(account.id) == 700
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.client.v1.payouts.cancel(payout.id, {}, options)


def test_the_balance_is_the_sum_of_its_transactions(sandbox: Sandbox) -> None:
    account = sandbox.reseller()
    for _ in range(4):
        intent = sandbox.pay()
        sandbox.client.v1.transfers.create(
            {
                "amount": 700,
                "currency": "eur",
                "destination": account.id,
                "source_transaction": str(intent.latest_charge),
            }
        )
        sandbox.client.v1.refunds.create({"payment_intent": intent.id, "amount": 100})
    pages = sandbox.client.v1.balance_transactions.list({"limit": 7})
    entries = list(pages.auto_paging_iter())
    assert (
        len(entries)
        == len({entry.id for entry in entries})
        == sandbox.count("balance_transaction")
        - sum(
            1
            for _ in sandbox.client.v1.balance_transactions.list({}, {"stripe_account": account.id}).auto_paging_iter()
        )
        - _entries_of_other_accounts(sandbox, account.id)
    )
    assert sum(entry.net for entry in entries if entry.currency == "eur") == total_minor(sandbox)
    assert all(entry.net == entry.amount - entry.fee for entry in entries)
    pending = sum(entry.net for entry in entries if entry.status == "pending")
    assert pending == sum(part.amount for part in sandbox.client.v1.balance.retrieve().pending)


def _entries_of_other_accounts(sandbox: Sandbox, known: str) -> int:
    number = 0
    for account in sandbox.client.v1.accounts.list({"limit": 100}).auto_paging_iter():
        if account.id != known:
            listed = sandbox.client.v1.balance_transactions.list({"limit": 100}, {"stripe_account": account.id})
            number += sum(1 for _ in listed.auto_paging_iter())
    return number


def test_nested_expansion_in_a_list(sandbox: Sandbox) -> None:
    intent = sandbox.pay()
    found = sandbox.client.v1.charges.list(
        {"payment_intent": intent.id, "expand": ["data.balance_transaction", "data.payment_intent"]}
    )
    assert isinstance(found.data[0].balance_transaction, stripe.BalanceTransaction)
    assert isinstance(found.data[0].payment_intent, stripe.PaymentIntent)
