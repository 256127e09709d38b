"""The demo's catalogue is the good file; each bad one is the good one with something changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.catalog import Catalog, CatalogErrors, parse_catalog
from domain.catalog_yaml import Problem
from domain.commission import PercentageRule
from domain.model import NoQuote, PayoutMode
from domain.pricing import find_price

GOOD = (Path(__file__).parents[2] / "local" / "catalog.yaml").read_text(encoding="utf-8")


def changed(*changes: tuple[str, str]) -> str:
    text = GOOD
    for old, new in changes:
        assert old in text, f"the demo's catalogue no longer holds {old!r}"
        text = text.replace(old, new, 1)
    return text


def errors(text: str) -> list[tuple[str, str]]:
    """(field, problem) of all errors."""
    with pytest.raises(CatalogErrors) as refused:
        parse_catalog(text)
    return [(error.field, error.problem) for error in refused.value.errors]


def only_error(text: str) -> str:
    (found,) = errors(text)
    return f"{found[0]}: {found[1]}"


def test_the_demos_catalogue_is_right_and_shows_every_kind() -> None:
    catalog = parse_catalog(GOOD)
    order = [reseller.id for reseller in catalog.resellers]
    assert order.index("r-nord") < order.index("r-hamburg") < order.index("r-altona")
    prices = [price for book in catalog.price_books for price in book.prices]
    assert {price.kind for price in prices} == {"fixed", "per_minute", "tiered"}
    assert {price.charge_moment.value for price in prices} == {"at_booking", "hours_before_start", "at_end"}
    assert {price.vat_rate_bps for price in prices} == {0, 700, 1900}
    assert {rule.kind for a in catalog.agreements for rule in (a.own, a.override) if rule} == {
        "percentage",
        "fixed",
        "tiers",
        "margin",
    }
    assert len(catalog.customers) >= 8
    assert {customer.currency for customer in catalog.customers} == {"EUR"}
    assert any(reseller.payout_mode is PayoutMode.PER_BOOKING for reseller in catalog.resellers)
    emails = [customer.email for customer in catalog.customers] + [reseller.email for reseller in catalog.resellers]
    assert all(email.endswith(".example.com") for email in emails)


def test_every_mapped_event_type_of_the_demo_has_a_price_except_the_ninth() -> None:
    catalog = parse_catalog(GOOD)
    parents = {reseller.id: reseller.parent_id for reseller in catalog.resellers}
    customers = {customer.id: customer for customer in catalog.customers}
    missing = []
    now = max(book.effective_from for book in catalog.price_books)
    for event_type_id, customer_id in catalog.mappings.event_types.items():
        path = []
        current = customers[customer_id].reseller_id
        while current is not None:
            path.append(current)
            current = parents[current]
        try:
            find_price(
                catalog.price_books, customer_id=customer_id, reseller_path=path, event_type_id=event_type_id, at=now
            )
        except NoQuote:
            missing.append(event_type_id)
    assert missing == [9]


def test_resellers_without_an_agreement_get_the_default_one_as_data() -> None:
    agreements = {agreement.reseller_id: agreement for agreement in parse_catalog(GOOD).agreements}
    assert set(agreements) == {"r-nord", "r-hamburg", "r-altona", "r-sued", "r-alpen", "r-insel", "r-west"}
    default = agreements["r-altona"]
    assert isinstance(default.own, PercentageRule)
    assert default.own.rate_bps == 2500
    assert agreements["r-sued"].own != default.own


def test_a_catalogue_survives_the_way_through_json() -> None:
    catalog = parse_catalog(GOOD)
    assert Catalog.model_validate_json(catalog.model_dump_json()) == catalog


def test_records_of_the_parties_hold_nothing_personal() -> None:
    catalog = parse_catalog(GOOD)
    for customer in catalog.customers:
        stored = customer.customer().model_dump_json()
        assert customer.name not in stored
        assert customer.email not in stored
    for reseller in catalog.resellers:
        stored = reseller.reseller().model_dump_json()
        assert reseller.name not in stored
        assert reseller.email not in stored


def test_every_error_is_told_at_once_with_line_field_and_what_to_do() -> None:
    margin = "    version: 1\n    effective_from: 2020-01-01\n    currency: EUR\n    own: {kind: margin}"
    text = changed(
        ("country: DE\n  currency: EUR", "country: Deutschland\n  currency: EUX"),
        ("parent_id: r-hamburg", "parent_id: r-hambrug"),
        ("net_minor: 4900", "net_minor: 49.00"),
        ("net_minor_per_minute: 120", "net_minor_per_minute: '120'"),
        ("late_fee_bps: 5000", "late_fe_bps: 5000"),
        ("- event_type_id: 14", "- event_type_id: 13"),
        ("    1: c-zahnarzt-altona", "    1: c-zahnarzt-altona\n    1: c-salon-altona"),
        ("    6: c-studio-sued", "    6: c-gibt-es-nicht"),
        ("  - id: r-west", "  - id: r-sued"),
        (margin, margin.replace("    effective_from: 2020-01-01\n", "")),
        ("payment_method: pm_card_visa", "payment_method: visa"),
    )
    with pytest.raises(CatalogErrors) as refused:
        parse_catalog(text)
    lines = text.splitlines()
    by_field = {error.field: error for error in refused.value.errors}
    for field, needle in {
        "platform.country": "Deutschland",
        "platform.currency": "EUX",
        "resellers[2].parent_id": "r-hambrug",
        "customers[0].payment_method": "payment_method: visa",
        "price_books[0].prices[0].net_minor": "49.00",
        "price_books[0].prices[0].terms.late_fe_bps": "late_fe_bps",
        "price_books[0].prices[1].net_minor_per_minute": "'120'",
        "price_books[0].prices[12].event_type_id": "- event_type_id: 13",
        "mappings.event_types[1]": "1: c-salon-altona",
        "mappings.event_types[6]": "c-gibt-es-nicht",
        "resellers[5].id": "- id: r-sued",
    }.items():
        assert needle in lines[by_field[field].line - 1], field
        assert by_field[field].hint
    assert by_field["agreements[1].effective_from"].problem == "is missing"
    assert lines[by_field["agreements[1].effective_from"].line - 1].strip() == "- reseller_id: r-alpen"
    assert "Did you mean late_fee_bps?" in str(refused.value)
    numbers = [error.line for error in refused.value.errors]
    assert numbers == sorted(numbers)
    assert str(refused.value).count("\n") == len(numbers) - 1


def test_a_circle_of_resellers_names_everybody_in_it() -> None:
    found = errors(changed(("- id: r-nord\n", "- id: r-nord\n    parent_id: r-altona\n")))
    assert found[0] == (
        "resellers[0].parent_id",
        "the resellers form a circle: r-nord → r-altona → r-hamburg → r-nord",
    )
    assert len(found) == 3
    assert "circle: r-west → r-west" in only_error(changed(("- id: r-west\n", "- id: r-west\n    parent_id: r-west\n")))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("rate_bps: 500}", "rate_bps: 800}"), "r-altona v1 2500 + r-hamburg v1 800 + r-nord v1 800 = 4100 bps"),
        (("net_minor: 6900", "net_minor: 9900"), "at alpen/v1#event-7 (99,00 €): r-alpen v1 5000 + r-sued v1 150"),
        (("amount_minor: 150", "amount_minor: 700"), "at platform/v1#event-2 (15,00 €)"),
        (("rate_bps: 3000}", "rate_bps: 4001}"), "r-west v1 4001 = 4001 bps, above the ceiling of 4000 bps"),
    ],
)
def test_an_agreement_beyond_its_ceiling_is_refused_when_it_is_saved(change: tuple[str, str], problem: str) -> None:
    found = errors(changed(change))
    assert any(field.endswith("ceiling_bps") and problem in text for field, text in found), found


def test_a_ceiling_counts_at_the_time_when_agreements_meet() -> None:
    later = """agreements:
  - reseller_id: r-hamburg
    version: {version}
    effective_from: {day}
    currency: EUR
    own: {{kind: percentage, rate_bps: 2500}}
    override: {{kind: percentage, rate_bps: {rate}}}
    ceiling_bps: 4000
"""
    first = later.format(version=1, day="2020-01-01", rate=500)
    second = later.format(version=2, day="2027-01-01", rate=1200).removeprefix("agreements:\n")
    assert "r-altona v1 2500 + r-hamburg v2 1200 + r-nord v1 500 = 4200 bps" in only_error(
        changed(("agreements:\n", first + second))
    )
    parse_catalog(changed(("agreements:\n", first)))


BOOK = """
  - id: {id}
    owner: {{kind: customer, id: c-klinik-luebeck}}
    version: {version}
    effective_from: {day}
    currency: {currency}
    prices:
      - {{kind: fixed, net_minor: 3500, charge_moment: at_end, hold_days: 1, vat_rate_bps: 1900,
         terms: {{free_until_hours_before: 24}}}}

# own:"""


@pytest.mark.parametrize(
    ("id", "version", "day", "currency", "field", "problem"),
    [
        ("klinik-luebeck", 1, "2027-01-01", "EUR", "version", "id klinik-luebeck version 1 is in line"),
        ("klinik-luebeck", 2, "2020-01-01", "EUR", "effective_from", "version 2 starts"),
        ("klinik-luebeck", 2, "2027-01-01", "CHF", "currency", "version 1 is in EUR"),
        ("klinik-neu", 1, "2027-01-01", "EUR", "owner", "has the price book 'klinik-luebeck' already"),
        ("alpen", 2, "2027-01-01", "EUR", "owner", "version 1 has another owner"),
        ("klinik-luebeck", 2, "2027-13-01", "EUR", "effective_from", "is no day"),
        ("klinik-luebeck", 2, "2027-01-01T00:00:00", "EUR", "effective_from", "is no day"),
        ("klinik-luebeck", 2, "", "EUR", "effective_from", "is no day"),
    ],
)
def test_versions_replace_each_other_in_order(
    id: str, version: int, day: str, currency: str, field: str, problem: str
) -> None:
    found = errors(changed(("\n# own:", BOOK.format(id=id, version=version, day=day, currency=currency))))
    assert any(path == f"price_books[3].{field}" and problem in text for path, text in found), found


def test_a_new_version_of_a_book_is_taken() -> None:
    text = changed(("\n# own:", BOOK.format(id="klinik-luebeck", version=2, day="2027-01-01", currency="EUR")))
    assert [book.version for book in parse_catalog(text).price_books if book.id == "klinik-luebeck"] == [1, 2]


def test_a_reseller_needs_an_agreement() -> None:
    without = GOOD[: GOOD.index("# For every reseller without")]
    assert [field for field, problem in errors(without) if "has no agreement" in problem] == [
        "resellers[0]",
        "resellers[1]",
        "resellers[2]",
        "resellers[6]",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("~", "a catalogue is a mapping"),
        ("[1, 2]", "a catalogue is a mapping"),
        ("resellers: [", "not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("a: \x07", "a character that YAML does not allow"),
        ("a: " + "[" * 100_000, "nested too deeply"),
        ("a: " + "x" * 1_100_000, "characters"),
    ],
)
def test_what_is_no_catalogue_at_all_is_one_error(text: str, problem: str) -> None:
    assert problem in only_error(text)


def test_hostile_yaml_neither_runs_nor_explodes() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    assert "values after aliases" in only_error(bomb)
    assert ("loop[0]", "an alias that contains itself") in errors("loop: &x [*x]")
    found = errors("platform: !!python/object/apply:os.system ['true']")
    assert any("is not supported" in problem for _, problem in found)


def test_yaml_words_and_numbers_mean_what_they_look_like() -> None:
    catalog = parse_catalog(changed(("country: AT\n", "country: NO\n"), ("name: Hanse Termine", "name: on")))
    names = {reseller.id: (reseller.name, reseller.country) for reseller in catalog.resellers}
    assert names["r-alpen"][1] == "NO", "Norway is no `false`"
    assert names["r-hamburg"][0] == "on"
    assert "is no amount" in only_error(changed(("net_minor: 4900", "net_minor: 4.900")))
    assert "is no amount" in only_error(changed(("net_minor: 4900", "net_minor: 4_900")))
    assert "is no amount" in only_error(changed(("net_minor: 4900", "net_minor: true")))
    assert "is no rate" in only_error(changed(("late_fee_bps: 5000", "late_fee_bps: 50 %")))


def test_aliases_may_be_used_sensibly() -> None:
    text = changed(
        ("terms: {free_until_hours_before: 24}", "terms: &day {free_until_hours_before: 24}"),
        ("terms: {free_until_hours_before: 24}", "terms: *day"),
    )
    assert parse_catalog(text) == parse_catalog(GOOD)


def test_errors_do_not_repeat_names_and_addresses() -> None:
    text = changed(("email: praxis@zahnarzt-altona.example.com", "email: praxis at secret-person"))
    with pytest.raises(CatalogErrors) as refused:
        parse_catalog(text)
    assert "secret-person" not in str(refused.value)
    assert "customers[0].email" in str(refused.value)


@settings(max_examples=60)
@given(st.data())
def test_no_damage_to_a_file_raises_anything_else_than_its_errors(data: st.DataObject) -> None:
    lines = GOOD.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(lines) - 1))
        line = lines[index]
        lines[index] = data.draw(
            st.sampled_from(
                [line[:-1], line + ": x", " " + line, line.replace(":", ""), "- " + line, "", '"', "{}", "~"]
            )
        )
    found: tuple[Problem, ...] = ()
    try:
        parse_catalog("\n".join(lines))
        is_right = True
    except CatalogErrors as refused:
        is_right = False
        found = refused.errors
    assert is_right or found
    assert all(1 <= error.line <= len(lines) + 1 and error.problem and error.hint for error in found)
