"""How a statement puts things: rules, VAT, what happens to the money. The wording of the law is German.

Sources: § 14 (2) sentence 2 and (4) UStG for self-billed credit notes, § 14a (5) UStG for reverse charge, § 19 UStG and
§ 34a UStDV for small businesses, § 17 UStG for what is taken back later.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from domain.commission import recompute
from domain.effects import AdjustmentKind, CarryReason, LineKind, SettlementStatus
from domain.model import JsonDict, Level, ParkReason, PayoutMode
from domain.money import MAX_AMOUNT_MINOR, format_amount
from domain.pricing import BERLIN
from domain.settlement import Adjustment, Statement, StatementLine, TaxLine

CREDIT_NOTE: Final = "Self-billed credit note (Gutschrift, § 14 Abs. 2 Satz 2 UStG)"
CORRECTION: Final = "Correction of earlier self-billed credit notes (Korrektur früherer Gutschriften, § 17 UStG)"
NO_DOCUMENT: Final = "Account statement: nothing was earned or taken back, so it is no credit note"

SERVICE: Final = "Brokering of bookings (Vermittlungsleistungen)"
OBJECTION: Final = "Once you object to it, this credit note is no invoice any more (§ 14 Abs. 2 Satz 3 UStG)."

_VAT: Final = {
    "standard": "Umsatzsteuer",
    "reverse_charge": "Steuerschuldnerschaft des Leistungsempfängers (reverse charge, § 13b UStG)",
    "small_business": "keine Umsatzsteuer: Steuerbefreiung für Kleinunternehmer (§ 19 UStG)",
}

_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)

_PARKED: Final = {
    ParkReason.APPROVAL_REQUIRED: "a second person on our side has to approve it",
    ParkReason.RESELLER_NOT_READY: "your Stripe account cannot receive transfers now; it is paid as soon as it can",
    ParkReason.CURRENCY_MISMATCH: "your Stripe account does not hold {currency}; we do not convert currencies",
    ParkReason.TRANSFER_REFUSED: "Stripe refused the transfer; we look into it",
    ParkReason.OUTCOME_UNKNOWN: "Stripe has not told yet whether the transfer was made; nothing is sent twice",
    ParkReason.BALANCE_INSUFFICIENT: "our balance at Stripe has to cover it first",
}


def month(period: str) -> str:
    """`2026-03` as March 2026."""
    return f"{_MONTHS[int(period[5:]) - 1]} {period[:4]}"


def day(moment: datetime | None) -> str:
    """Day in Berlin; a dash for None."""
    return moment.astimezone(BERLIN).strftime("%d.%m.%Y") if moment else "–"


def minute(moment: datetime) -> str:
    return moment.astimezone(BERLIN).strftime("%d.%m.%Y %H:%M")


def rate(rate_bps: int) -> str:
    """`1900` as 19 %, `1950` as 19,5 %."""
    whole, rest = divmod(rate_bps, 100)
    return f"{whole},{f'{rest:02d}'.rstrip('0')} %" if rest else f"{whole} %"


def document(statement: Statement) -> str:
    """What the statement is to the tax office."""
    if any(not tax.is_debit for tax in statement.taxes):
        return CREDIT_NOTE
    return CORRECTION if statement.taxes else NO_DOCUMENT


def missing(statement: Statement) -> tuple[str, ...]:
    """What § 14 (4) UStG demands on a credit note and is not recorded. Empty where nothing is, or none is issued."""
    if not statement.taxes:
        return ()
    party, issuer = statement.party, statement.issuer or {}
    address = party.address or {}
    found = []
    if not all(address.get(part) for part in ("line1", "postal_code", "city")):
        found.append("your address")
    if not party.vat_id:
        found.append("your VAT id or tax number")
    if not issuer.get("name") or not issuer.get("address"):
        found.append("our name and address")
    return tuple(found)


def vat(tax: TaxLine) -> str:
    """Rate and reason of one line of the VAT table, as the law words it."""
    words = _VAT.get(tax.vat_reason, "Umsatzsteuer")
    return f"{rate(tax.vat_rate_bps)} {words}" if tax.vat_rate_bps else words[0].upper() + words[1:]


def how(line: StatementLine, currency: str) -> str:
    """How a line came to its amount: the rule that was frozen when it was earned, and what was undone since."""
    if line.kind is LineKind.CLAWBACK:
        vat_then = f", VAT then {rate(line.vat_rate_bps)}" if line.vat_rate_bps else ""
        if line.amount_minor == 0:
            return "its own transfer was taken back"
        return f"refunded since an earlier statement{vat_then}"
    rule = line.rule
    if "kind" not in rule or "inputs" not in rule:
        return ""
    words = _rule(rule, currency)
    due_minor = _by_rule(rule)
    if _by_rule({**rule, "inputs": {**rule["inputs"], "left_minor": MAX_AMOUNT_MINOR}}) > due_minor:
        words += ", limited by the ceiling of all levels"
    if due_minor > line.amount_minor:
        words += f", less {format_amount(due_minor - line.amount_minor, currency)} refunded"
    return words


def _by_rule(rule: JsonDict) -> int:
    return recompute(
        Level(
            reseller_id="r",
            level=0,
            amount_minor=0,
            rule=rule,
            agreement_version=1,
            payout_mode=PayoutMode.MONTHLY,
        )
    )


def _rule(rule: JsonDict, currency: str) -> str:
    inputs = rule["inputs"]
    net = format_amount(inputs["net_minor"], currency)
    match rule["kind"]:
        case "percentage":
            words = f"{rate(rule['rate_bps'])} of {net}"
        case "fixed":
            words = "fixed amount"
        case "margin":
            words = f"margin: {net} less {format_amount(inputs['wholesale_net_minor'] or 0, currency)}"
        case "tiers":
            words = f"{' / '.join(rate(one) for one in _tier_rates(rule))} of {net}, by volume of the month"
        case _:
            words = "nothing agreed"
    for name, bound in (("floor_minor", "at least"), ("cap_minor", "at most")):
        if rule.get(name) is not None:
            words += f", {bound} {format_amount(rule[name], currency)}"
    retained = rule.get("retained")
    if retained is not None:
        whole = retained["whole_gross_minor"]
        kept_bps = (whole - retained["waived_gross_minor"]) * 10_000 // whole
        words += f", of it {rate(kept_bps)} kept after a cancellation"
    return words


def _tier_rates(rule: JsonDict) -> list[int]:
    """Rates of the tiers that the booking's net amount fell into: several where it crossed a border."""
    before_minor = rule["inputs"]["month_volume_before_minor"]
    after_minor = before_minor + rule["inputs"]["net_minor"]
    starts = [tier["from_minor"] for tier in rule["tiers"]]
    ends = [*starts[1:], after_minor + 1]
    return [
        tier["rate_bps"]
        for tier, start, end in zip(rule["tiers"], starts, ends, strict=True)
        if max(start, before_minor) < min(end, after_minor)
    ]


def adjustment(one: Adjustment) -> str:
    kind = "Write-off" if one.kind is AdjustmentKind.WRITE_OFF else "Correction"
    return f"{kind} {one.id}: {one.why}"


def outcome(statement: Statement) -> str:
    """What happens to the closing amount, or has happened: one or two sentences for the reseller."""
    if statement.status is SettlementStatus.PAID:
        return _paid(statement)
    if statement.status is SettlementStatus.CARRIED_OVER:
        return _carried(statement)
    payable = format_amount(statement.payable_minor, statement.currency)
    if statement.reason is ParkReason.NEGATIVE_BALANCE:
        since = f" since {month(statement.negative_since)}" if statement.negative_since else ""
        debt = format_amount(statement.carried_debt_minor, statement.currency)
        return f"You owe {debt}{since}. We get in touch with you; nothing is charged by itself."
    if statement.status is SettlementStatus.WAITING:
        since = f" since {minute(statement.waiting_since)}" if statement.waiting_since else ""
        return f"{payable} wait{since}: {_PARKED[ParkReason.BALANCE_INSUFFICIENT]}. It is tried again by itself."
    if statement.status is SettlementStatus.PARKED and statement.reason is not None:
        words = _PARKED.get(statement.reason, "a person on our side has to look at it")
        return f"{payable} are not paid yet: {words.format(currency=statement.currency)}."
    return f"{payable} are transferred to your Stripe account with this month's run."


def _paid(statement: Statement) -> str:
    transfer = statement.transfer
    payable = format_amount(statement.payable_minor, statement.currency)
    if transfer is None:
        return f"{payable} were paid."
    words = (
        f"{payable} were transferred on {day(transfer.finished_at)} to your Stripe account "
        f"{transfer.destination_account_id} (transfer {transfer.transfer_id}). "
        "From there Stripe pays your bank account, by that account's schedule."
    )
    if transfer.reversed_minor:
        words += f" {format_amount(transfer.reversed_minor, statement.currency)} of it were taken back since."
    return words


def _carried(statement: Statement) -> str:
    currency = statement.currency
    where = f"statement {statement.brought_into}" if statement.brought_into else "your next statement"
    if statement.carried_by is not None:
        amount = format_amount(statement.payable_minor, currency)
        return f"{amount} are not transferred, by a decision on our side, and come with {where}."
    if statement.carry_reason is CarryReason.NOTHING_DUE:
        return "Nothing is left to pay."
    if statement.carry_reason is CarryReason.NEGATIVE:
        debt = format_amount(statement.carried_debt_minor, currency)
        return f"You owe {debt}. It is set against what you earn, with {where}."
    amount = format_amount(statement.carried_credit_minor, currency)
    if statement.carry_reason is CarryReason.ON_HOLD:
        return f"{amount} stay on your account because payouts are on hold, and come with {where}."
    minimum = format_amount(statement.minimum_payout_minor, currency)
    return f"{amount} are below your minimum payout of {minimum} and come with {where}."
