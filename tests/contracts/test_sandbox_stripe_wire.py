"""The sandbox's manners on the wire: keys, routes, parameters, errors, lists."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import stripe

from tests.contracts.sandbox_stripe_support import Form, Sandbox, checked, running, unique


@pytest.fixture(scope="module", name="sandbox")
def sandbox_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    yield from running(tmp_path_factory.mktemp("wire"))


@pytest.fixture(autouse=True, name="_checked")
def checked_fixture(sandbox: Sandbox) -> Iterator[None]:
    yield from checked(sandbox)


def error_of(answer: httpx.Response) -> dict[str, object]:
    body = answer.json()
    assert set(body) == {"error"}
    error: dict[str, object] = body["error"]
    return error


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer sk_live_example", "Bearer whsec_example", "Basic c2s6"])
def test_a_request_without_a_test_key_is_unauthorized(sandbox: Sandbox, header: str) -> None:
    answer = sandbox.http.get("/v1/balance", headers={"authorization": header})
    assert answer.status_code == 401
    assert error_of(answer)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/nothing"), ("PUT", "/v1/customers"), ("GET", "/"), ("DELETE", "/v1/balance")]
)
def test_an_unknown_route_is_not_found(sandbox: Sandbox, method: str, path: str) -> None:
    answer = sandbox.http.request(method, path)
    assert answer.status_code == 404
    assert "Unrecognized request URL" in str(error_of(answer)["message"])


PAYMENT: Form = {"amount": 4900, "currency": "eur"}


@pytest.mark.parametrize(
    ("form", "code", "param"),
    [
        ({**PAYMENT, "amuont": 1}, "parameter_unknown", "amuont"),
        (
            {**PAYMENT, "automatic_payment_methods[enable]": "true"},
            "parameter_unknown",
            "automatic_payment_methods[enable]",
        ),
        ({"currency": "eur"}, "parameter_missing", "amount"),
        ({"amount": 4900}, "parameter_missing", "currency"),
        ({**PAYMENT, "amount": "50.5"}, "parameter_invalid_integer", "amount"),
        ({**PAYMENT, "amount": "-100"}, "parameter_invalid_integer", "amount"),
        ({**PAYMENT, "amount": 49}, "amount_too_small", "amount"),
        ({**PAYMENT, "amount": 100_000_000}, "amount_too_large", "amount"),
        ({**PAYMENT, "currency": "xyz"}, None, "currency"),
        ({**PAYMENT, "confirm": "yes"}, None, "confirm"),
        ({**PAYMENT, "customer": ""}, "parameter_invalid_empty", "customer"),
        ({**PAYMENT, "off_session": "true"}, None, "off_session"),
        ({**PAYMENT, "capture_method": "manually"}, None, "capture_method"),
        ({**PAYMENT, "metadata[" + "k" * 41 + "]": "v"}, None, "metadata[" + "k" * 41 + "]"),
        ({**PAYMENT, "metadata[k]": "v" * 501}, None, "metadata[k]"),
        ({**PAYMENT, **{f"metadata[k{n}]": "v" for n in range(51)}}, None, "metadata"),
        ({**PAYMENT, "customer": "cus_unknown"}, "resource_missing", "customer"),
        ({**PAYMENT, "payment_method": "pm_unknown"}, "resource_missing", "payment_method"),
        ({**PAYMENT, "expand[]": "latest"}, None, "expand"),
    ],
)
def test_a_wrong_parameter_is_named_and_nothing_is_made(
    sandbox: Sandbox, form: Form, code: str | None, param: str
) -> None:
    before = sandbox.count("payment_intent")
    answer = sandbox.post("/v1/payment_intents", form)
    assert answer.status_code == 400
    error = error_of(answer)
    assert (error["type"], error.get("code"), error.get("param")) == ("invalid_request_error", code, param)
    assert sandbox.count("payment_intent") == before


def test_a_json_body_is_refused(sandbox: Sandbox) -> None:
    answer = sandbox.http.post("/v1/customers", json={"name": "Example"})
    assert answer.status_code == 400
    assert "form-urlencoded" in str(error_of(answer)["message"])


def test_an_oversized_body_is_refused(sandbox: Sandbox) -> None:
    answer = sandbox.http.post("/v1/customers", data={"description": "x" * 1_100_000})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "customers/cus_x",
        "payment_intents/pi_x",
        "charges/ch_x",
        "refunds/re_x",
        "transfers/tr_x",
        "disputes/du_x",
        "payouts/po_x",
        "events/evt_x",
        "balance_transactions/txn_x",
        "payment_methods/pm_x",
        "webhook_endpoints/we_x",
    ],
)
def test_an_unknown_id_in_the_path_is_a_404(sandbox: Sandbox, path: str) -> None:
    answer = sandbox.http.get(f"/v1/{path}")
    assert answer.status_code == 404
    assert error_of(answer)["code"] == "resource_missing"


def test_an_id_of_another_kind_is_not_found(sandbox: Sandbox) -> None:
    customer = sandbox.client.v1.customers.create({})
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.client.v1.charges.retrieve(customer.id)
    assert caught.value.http_status == 404


def test_an_unknown_account_is_forbidden(sandbox: Sandbox) -> None:
    with pytest.raises(stripe.PermissionError) as caught:
        sandbox.client.v1.balance.retrieve({}, {"stripe_account": "acct_unknown"})
    assert caught.value.error is not None
    assert caught.value.error.code == "account_invalid"


def test_a_list_is_paged_by_cursors_newest_first(sandbox: Sandbox) -> None:
    email = f"{unique('page')}@example.com"
    made = [sandbox.client.v1.customers.create({"email": email}).id for _ in range(5)]
    newest = sandbox.client.v1.customers.list({"email": email, "limit": 2})
    assert [customer.id for customer in newest.data] == [made[4], made[3]]
    assert newest.has_more
    following = sandbox.client.v1.customers.list({"email": email, "limit": 3, "starting_after": made[3]})
    assert [customer.id for customer in following.data] == [made[2], made[1], made[0]]
    assert not following.has_more
    newer = sandbox.client.v1.customers.list({"email": email, "limit": 2, "ending_before": made[1]})
    assert [customer.id for customer in newer.data] == [made[3], made[2]]
    assert newer.has_more
    assert [customer.id for customer in newest.auto_paging_iter()] == made[::-1]


@pytest.mark.parametrize("query", ["limit=101", "limit=0", "limit=x", "starting_after=cus_x", "created[after]=1"])
def test_a_wrong_page_is_refused(sandbox: Sandbox, query: str) -> None:
    assert sandbox.http.get(f"/v1/customers?{query}").status_code == 400


def test_lists_filter_by_creation_time(sandbox: Sandbox) -> None:
    email = f"{unique('time')}@example.com"
    first = sandbox.client.v1.customers.create({"email": email})
    sandbox.control("clock", advance_seconds=3600)
    second = sandbox.client.v1.customers.create({"email": email})
    assert second.created >= first.created + 3600
    later = sandbox.client.v1.customers.list({"email": email, "created": {"gt": first.created}})
    assert [customer.id for customer in later.data] == [second.id]
    earlier = sandbox.client.v1.customers.list({"email": email, "created": {"lte": first.created}})
    assert [customer.id for customer in earlier.data] == [first.id]


def test_metadata_is_merged_and_unset(sandbox: Sandbox) -> None:
    customer = sandbox.client.v1.customers.create({"metadata": {"a": "1", "b": "2"}})
    changed = sandbox.client.v1.customers.update(customer.id, {"metadata": {"b": "", "c": "ü&="}})
    assert changed.metadata is not None
    assert changed.metadata.to_dict() == {"a": "1", "c": "ü&="}
    emptied = sandbox.client.v1.customers.update(customer.id, {"metadata": ""})
    assert emptied.metadata is not None
    assert emptied.metadata.to_dict() == {}


def test_every_answer_names_its_request_and_version(sandbox: Sandbox) -> None:
    answer = sandbox.http.get("/v1/balance", headers={"stripe-version": "2026-10-28.endive"})
    assert answer.headers["request-id"].startswith("req_")
    assert answer.headers["stripe-version"] == "2026-10-28.endive"


def test_a_customer_can_be_deleted_once(sandbox: Sandbox) -> None:
    customer = sandbox.client.v1.customers.create({"payment_method": "pm_card_visa"})
    assert sandbox.client.v1.customers.delete(customer.id).deleted
    assert sandbox.client.v1.customers.retrieve(customer.id).deleted
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.client.v1.customers.delete(customer.id)
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.pay(customer=customer.id)
    assert caught.value.http_status == 400


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("faults", {"kind": "explode"}, "kind"),
        ("faults", {"kind": "reset", "path_regex": "("}, "path_regex"),
        ("faults", {"kind": "reset", "tims": 1}, "tims"),
        ("clock", {"advance_seconds": -1}, "advance_seconds"),
        ("accounts/acct_x", {"state": "active"}, "acct_x"),
        ("disputes/du_x", {"status": "won"}, "du_x"),
        ("payment_methods/pm_x", {"behaves_as": "pm_card_visa"}, "pm_x"),
        ("nothing", {}, "nothing"),
    ],
)
def test_a_wrong_control_call_says_why(sandbox: Sandbox, path: str, body: dict[str, object], told: str) -> None:
    answer = sandbox.http.post(f"/_sandbox/{path}", json=body)
    assert answer.status_code in (400, 404)
    assert told in answer.json()["error"]["message"]
