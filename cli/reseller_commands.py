"""The commands `billing reseller …`, their arguments and help. What a command does is imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.arguments import AsJson, By, Why

app = typer.Typer(help="Resellers: who they are, their accounts at Stripe, their money.", no_args_is_help=True)

Reseller = Annotated[str, typer.Argument(help="The reseller's id.", metavar="RESELLER")]
Onboard = Annotated[bool, typer.Option("--onboard", help="Also begin to take on everybody who cannot be paid yet.")]
ByDefault = Annotated[str, typer.Option("--by", help="Who orders it. Default: your login.")]


@app.command()
def add(
    reseller: Reseller,
    name: Annotated[str, typer.Option("--name", help="On statements.")] = "",
    email: Annotated[str, typer.Option("--email", help="For statements.")] = "",
    parent_id: Annotated[str, typer.Option("--parent", help="The reseller above him; -: none.")] = "",
    payout_mode: Annotated[str, typer.Option("--payout-mode", help="monthly, per_booking or on_hold.")] = "",
    address_line1: Annotated[str, typer.Option("--address-line1", help="Street and number.")] = "",
    address_line2: Annotated[str, typer.Option("--address-line2", help="More of the address; -: nothing.")] = "",
    postal_code: Annotated[str, typer.Option("--postal-code")] = "",
    city: Annotated[str, typer.Option("--city")] = "",
    country: Annotated[str, typer.Option("--country", help="Two letters of ISO 3166. Default: DE.")] = "",
    small_business: Annotated[str, typer.Option("--small-business", help="§ 19 UStG: yes or no.")] = "",
    tax_status_from: Annotated[str, typer.Option("--tax-status-from", help="Shown to hold from: YYYY-MM-DD.")] = "",
    tax_status_proof: Annotated[str, typer.Option("--tax-status-proof", help="Where the proof is kept.")] = "",
    vat_id: Annotated[str, typer.Option("--vat-id", help="With the country's prefix; -: none.")] = "",
    minimum_payout_minor: Annotated[
        str, typer.Option("--minimum-payout-minor", help="Minor units by currency: 'EUR=2500 CHF=3000'; -: none.")
    ] = "",
    stripe_account_id: Annotated[str, typer.Option("--stripe-account", help="One that he has already.")] = "",
    agreement_like: Annotated[str, typer.Option("--agreement-like", help="Whose agreement he gets a copy of.")] = "",
    onboard: Onboard = False,
    by: ByDefault = "",
) -> None:
    """Add a reseller, or change one: what is not given stays as it is."""
    from cli import resellers

    cells = {
        "id": reseller,
        "name": name,
        "email": email,
        "parent_id": parent_id,
        "payout_mode": payout_mode,
        "address_line1": address_line1,
        "address_line2": address_line2,
        "postal_code": postal_code,
        "city": city,
        "country": country,
        "small_business": small_business,
        "tax_status_from": tax_status_from,
        "tax_status_proof": tax_status_proof,
        "vat_id": vat_id,
        "minimum_payout_minor": minimum_payout_minor,
        "stripe_account_id": stripe_account_id,
        "agreement_like": agreement_like,
    }
    resellers.add(cells, onboard=onboard, by=by)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A table, CSV in UTF-8 as Excel saves it.", metavar="FILE")],
    onboard: Onboard = False,
    by: ByDefault = "",
) -> None:
    """Add or change many resellers. A file with errors changes nothing and tells all of them; again changes nothing."""
    from cli import resellers

    resellers.import_file(file, onboard=onboard, by=by)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """All resellers, with what Stripe lets them have."""
    from cli import resellers_shown

    resellers_shown.show_list(as_json=as_json)


@app.command()
def show(reseller: Reseller, as_json: AsJson = False) -> None:
    """One reseller: account, onboarding, balance, payouts, what was done."""
    from cli import resellers_shown

    resellers_shown.show_one(reseller, as_json=as_json)


@app.command()
def link(reseller: Reseller, by: By, why: Why, as_json: AsJson = False) -> None:
    """A fresh link for him to fill in what Stripe asks; begins to take him on. SECRET: give it to nobody else."""
    from cli import resellers

    resellers.link(reseller, by=by, why=why, as_json=as_json)


@app.command()
def retry(reseller: Reseller, by: By, why: Why) -> None:
    """Let an onboarding that is parked try again."""
    from cli import resellers

    resellers.retry(reseller, by=by, why=why)


@app.command()
def stop(reseller: Reseller, by: By, why: Why) -> None:
    """End an onboarding before he can be paid. His account at Stripe stays."""
    from cli import resellers

    resellers.stop(reseller, by=by, why=why)


@app.command()
def pause(reseller: Reseller, by: By, why: Why) -> None:
    """Pay him nothing until `resume`: he earns as before, transfers park."""
    from cli import resellers

    resellers.pause(reseller, paused=True, by=by, why=why)


@app.command()
def resume(reseller: Reseller, by: By, why: Why) -> None:
    """Let him be paid again; what waits for it goes on at once."""
    from cli import resellers

    resellers.pause(reseller, paused=False, by=by, why=why)
