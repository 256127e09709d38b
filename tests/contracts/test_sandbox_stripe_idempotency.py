"""Idempotency keys and the faults that make them necessary."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import stripe

from tests.contracts.sandbox_stripe_support import Form, Sandbox, checked, running, unique, wait_for

INTENTS = "/v1/payment_intents"
PAYMENT: Form = {
    "amount": 4900,
    "currency": "eur",
    "payment_method": "pm_card_visa",
    "confirm": "true",
    "off_session": "true",
}
DAY_SECONDS = 86_400


@pytest.fixture(scope="module", name="sandbox")
def sandbox_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    yield from running(tmp_path_factory.mktemp("idempotency"))


@pytest.fixture(autouse=True, name="_checked")
def checked_fixture(sandbox: Sandbox) -> Iterator[None]:
    yield from checked(sandbox)


@pytest.fixture(name="key")
def key_fixture() -> str:
    return unique("key")


def charges(sandbox: Sandbox) -> int:
    return sandbox.count("charge")


def fault(sandbox: Sandbox, kind: str, **more: Any) -> dict[str, Any]:
    return sandbox.control("faults", kind=kind, path_regex=f"^{INTENTS}$", **more)


def test_the_same_call_is_answered_again_not_done_again(sandbox: Sandbox, key: str) -> None:
    before = charges(sandbox)
    first = sandbox.post(INTENTS, PAYMENT, key=key)
    again = sandbox.post(INTENTS, PAYMENT, key=key)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["original-request"] == first.headers["request-id"]
    assert again.headers["idempotency-key"] == key
    assert charges(sandbox) == before + 1


def test_the_order_of_the_parameters_does_not_matter(sandbox: Sandbox, key: str) -> None:
    first = sandbox.post(INTENTS, {**PAYMENT, "metadata[a]": "1", "metadata[b]": "2"}, key=key)
    again = sandbox.post(INTENTS, {"metadata[b]": "2", "metadata[a]": "1", **dict(reversed(PAYMENT.items()))}, key=key)
    assert again.content == first.content


def test_a_decline_is_answered_again_too(sandbox: Sandbox, key: str) -> None:
    before = charges(sandbox)
    form = {**PAYMENT, "payment_method": "pm_card_chargeDeclined"}
    first = sandbox.post(INTENTS, form, key=key)
    again = sandbox.post(INTENTS, form, key=key)
    assert (first.status_code, again.status_code) == (402, 402)
    assert again.content == first.content
    assert charges(sandbox) == before + 1


@pytest.mark.parametrize(
    "change", [{"amount": 4901}, {"metadata[booking]": "b"}, {"amuont": 1}], ids=["other", "more", "unknown"]
)
def test_other_parameters_are_an_idempotency_error(sandbox: Sandbox, key: str, change: Form) -> None:
    sandbox.post(INTENTS, PAYMENT, key=key)
    before = charges(sandbox)
    with pytest.raises(stripe.IdempotencyError) as caught:
        sandbox.client.v1.payment_intents.create({"amount": 1234, "currency": "eur"}, {"idempotency_key": key})
    assert caught.value.http_status == 400
    answer = sandbox.post(INTENTS, {**PAYMENT, **change}, key=key)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "idempotency_error")
    assert charges(sandbox) == before
    assert sandbox.post(INTENTS, PAYMENT, key=key).headers["idempotent-replayed"] == "true"


def test_another_route_is_an_idempotency_error(sandbox: Sandbox, key: str) -> None:
    sandbox.post(INTENTS, PAYMENT, key=key)
    answer = sandbox.post("/v1/customers", {}, key=key)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "idempotency_error")


def test_what_failed_validation_is_not_kept(sandbox: Sandbox, key: str) -> None:
    assert sandbox.post(INTENTS, {**PAYMENT, "amount": "50.5"}, key=key).status_code == 400
    assert sandbox.post(INTENTS, {**PAYMENT, "amount": 49}, key=key).status_code == 400
    assert sandbox.post(INTENTS, PAYMENT, key=key).status_code == 200


def test_a_refusal_by_state_is_kept(sandbox: Sandbox, key: str) -> None:
    account = sandbox.reseller()
    form: Form = {"amount": 99_999_900, "currency": "eur", "destination": account.id}
    first = sandbox.post("/v1/transfers", form, key=key)
    assert first.json()["error"]["code"] == "balance_insufficient"
    sandbox.control("balance", amount_minor=99_999_900)
    assert sandbox.post("/v1/transfers", form, key=key).content == first.content
    assert sandbox.post("/v1/transfers", form, key=unique("key")).status_code == 200


def test_keys_are_forgotten_after_a_day_of_its_clock(sandbox: Sandbox, key: str) -> None:
    first = sandbox.post(INTENTS, PAYMENT, key=key)
    sandbox.control("clock", advance_seconds=DAY_SECONDS - 60)
    assert sandbox.post(INTENTS, PAYMENT, key=key).json()["id"] == first.json()["id"]
    sandbox.control("clock", advance_seconds=120)
    assert sandbox.post(INTENTS, PAYMENT, key=key).json()["id"] != first.json()["id"]


def test_keys_of_two_accounts_are_two_keys(sandbox: Sandbox, key: str) -> None:
    account = sandbox.reseller()
    mine = sandbox.post("/v1/customers", {}, key=key)
    theirs = sandbox.post("/v1/customers", {}, key=key, account=account.id)
    assert mine.json()["id"] != theirs.json()["id"]
    assert sandbox.http.get(f"/v1/customers/{theirs.json()['id']}").status_code == 404


def test_a_get_ignores_the_key(sandbox: Sandbox, key: str) -> None:
    sandbox.post("/v1/customers", {}, key=key)
    answer = sandbox.http.get("/v1/customers", headers={"idempotency-key": key})
    assert answer.status_code == 200
    assert answer.json()["object"] == "list"


def test_a_key_that_is_too_long_is_refused(sandbox: Sandbox) -> None:
    assert sandbox.post(INTENTS, PAYMENT, key="k" * 256).status_code == 400
    assert sandbox.post(INTENTS, PAYMENT, key="k" * 255).status_code == 200


def test_a_key_in_flight_is_a_conflict(sandbox: Sandbox, key: str) -> None:
    fault(sandbox, "slow", delay_seconds=1.0)
    before = charges(sandbox)
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(sandbox.post(INTENTS, PAYMENT, key=key)))
    thread.start()
    wait_for(lambda: sandbox.http.get("/_sandbox/faults").json()[0]["hits"], "the slow call to be under way")
    with pytest.raises(stripe.APIError) as caught:
        sandbox.client.v1.payment_intents.create(
            {
                "amount": 4900,
                "currency": "eur",
                "payment_method": "pm_card_visa",
                "confirm": True,
                "off_session": True,
            },
            {"idempotency_key": key},
        )
    assert caught.value.http_status == 409
    assert caught.value.error is not None
    assert caught.value.error.code == "idempotency_key_in_use"
    thread.join()
    assert sandbox.post(INTENTS, PAYMENT, key=key).content == answers[0].content
    assert charges(sandbox) == before + 1


def test_a_lost_answer_had_its_effect_and_is_replayed(sandbox: Sandbox, key: str) -> None:
    fault(sandbox, "lose_answer")
    before = charges(sandbox)
    with pytest.raises(httpx.TransportError):
        sandbox.post(INTENTS, PAYMENT, key=key)
    assert charges(sandbox) == before + 1
    again = sandbox.post(INTENTS, PAYMENT, key=key)
    assert again.json()["status"] == "succeeded"
    assert again.headers["idempotent-replayed"] == "true"
    assert charges(sandbox) == before + 1


def test_the_library_calls_a_lost_answer_a_connection_error(sandbox: Sandbox, key: str) -> None:
    sandbox.control("faults", kind="lose_answer", path_regex="^/v1/customers$")
    with pytest.raises(stripe.APIConnectionError):
        sandbox.client.v1.customers.create({}, {"idempotency_key": key})


def test_a_reset_has_no_effect(sandbox: Sandbox, key: str) -> None:
    fault(sandbox, "reset")
    before = charges(sandbox)
    with pytest.raises(httpx.TransportError):
        sandbox.post(INTENTS, PAYMENT, key=key)
    assert charges(sandbox) == before
    again = sandbox.post(INTENTS, PAYMENT, key=key)
    assert "idempotent-replayed" not in again.headers
    assert charges(sandbox) == before + 1


def test_an_error_before_the_effect_can_be_retried(sandbox: Sandbox, key: str) -> None:
    fault(sandbox, "error_before")
    before = charges(sandbox)
    assert sandbox.post(INTENTS, PAYMENT, key=key).status_code == 500
    assert charges(sandbox) == before
    assert sandbox.post(INTENTS, PAYMENT, key=key).status_code == 200
    assert charges(sandbox) == before + 1


@pytest.mark.parametrize(
    ("kind", "more", "effects"), [("error_before", {"saved": True}, 0), ("error_after", {}, 1)], ids=["before", "after"]
)
def test_a_kept_500_is_given_again_for_a_day(
    sandbox: Sandbox, key: str, kind: str, more: dict[str, Any], effects: int
) -> None:
    fault(sandbox, kind, **more)
    before = charges(sandbox)
    first = sandbox.post(INTENTS, PAYMENT, key=key)
    again = sandbox.post(INTENTS, PAYMENT, key=key)
    assert (first.status_code, again.status_code) == (500, 500)
    assert again.headers["idempotent-replayed"] == "true"
    assert charges(sandbox) == before + effects
    sandbox.control("clock", advance_seconds=DAY_SECONDS + 1)
    assert sandbox.post(INTENTS, PAYMENT, key=key).status_code == 200
    assert charges(sandbox) == before + effects + 1


def test_a_crash_does_not_replace_a_kept_answer(sandbox: Sandbox, key: str) -> None:
    first = sandbox.post(INTENTS, PAYMENT, key=key)
    fault(sandbox, "error_before", saved=True)
    assert sandbox.post(INTENTS, PAYMENT, key=key).status_code == 500
    assert sandbox.post(INTENTS, PAYMENT, key=key).content == first.content


def test_a_rate_limit_on_demand(sandbox: Sandbox, key: str) -> None:
    fault(sandbox, "rate_limit", retry_after_seconds=7)
    before = charges(sandbox)
    with pytest.raises(stripe.RateLimitError) as caught:
        sandbox.client.v1.payment_intents.create({"amount": 4900, "currency": "eur"}, {"idempotency_key": key})
    assert caught.value.http_status == 429
    assert caught.value.headers is not None
    assert caught.value.headers["retry-after"] == "7"
    assert caught.value.error is not None
    assert caught.value.error.code == "rate_limit"
    assert charges(sandbox) == before
    assert sandbox.post(INTENTS, PAYMENT, key=key).status_code == 200


def test_a_slow_answer_after_the_effect(sandbox: Sandbox, key: str) -> None:
    fault(sandbox, "slow", after=True, delay_seconds=0.4)
    before = charges(sandbox)
    with pytest.raises(httpx.ReadTimeout):
        sandbox.http.post(INTENTS, data=PAYMENT, headers={"idempotency-key": key}, timeout=0.15)
    assert charges(sandbox) == before + 1
    # The first call still runs: until it ends, its key is in use.
    answer = wait_for(
        lambda: next((a for a in [sandbox.post(INTENTS, PAYMENT, key=key)] if a.status_code == 200), None), "the key"
    )
    assert answer.headers["idempotent-replayed"] == "true"
    assert charges(sandbox) == before + 1


def test_faults_skip_count_and_choose_by_body(sandbox: Sandbox) -> None:
    made = fault(sandbox, "error_before", skip=1, times=2, body_regex="booking%5D=marked|booking\\]=marked")
    form = {**PAYMENT, "metadata[booking]": "marked"}
    statuses = [sandbox.post(INTENTS, form, key=unique("key")).status_code for _ in range(4)]
    assert statuses == [200, 500, 500, 200]
    assert sandbox.post(INTENTS, PAYMENT, key=unique("key")).status_code == 200
    assert sandbox.http.get("/_sandbox/faults").json()[0]["hits"] == 2
    sandbox.http.delete(f"/_sandbox/faults/{made['id']}")
    assert sandbox.http.get("/_sandbox/faults").json() == []


def test_a_fault_without_end_ends_when_removed(sandbox: Sandbox) -> None:
    fault(sandbox, "error_before", times=-1, method="*")
    assert {sandbox.http.get(INTENTS).status_code for _ in range(3)} == {500}
    sandbox.http.delete("/_sandbox/faults")
    assert sandbox.http.get(INTENTS).status_code == 200


def test_fifty_calls_with_one_key_at_once_make_one_charge(sandbox: Sandbox, key: str) -> None:
    before = charges(sandbox)
    statuses: list[int] = []

    def call() -> None:
        with httpx.Client(base_url=sandbox.address, headers=dict(sandbox.http.headers), trust_env=False) as client:
            statuses.append(client.post(INTENTS, data=PAYMENT, headers={"idempotency-key": key}).status_code)

    threads = [threading.Thread(target=call) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 409}
    assert 200 in statuses
    assert charges(sandbox) == before + 1


def test_the_log_tells_what_was_asked(sandbox: Sandbox, key: str) -> None:
    began = time.time()
    sandbox.post(INTENTS, PAYMENT, key=key)
    sandbox.post(INTENTS, PAYMENT, key=key)
    first, again = sandbox.log()
    assert (first["method"], first["path"], first["status"], first["idempotency_key"]) == ("POST", INTENTS, 200, key)
    assert "amount=4900" in first["body"]
    assert first["response"]["object"] == "payment_intent"
    assert (first["replayed"], again["replayed"]) == (False, True)
    assert began <= first["at"] <= again["at"]
    sandbox.control("log", enabled=False)
    sandbox.http.get("/v1/balance")
    sandbox.control("log", enabled=True)
    assert len(sandbox.log()) == 2
