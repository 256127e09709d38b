"""All settings of the pipeline in one frozen model: read once at start from the environment or a `.env` file.

Every default says its unit and its reason. `load()` turns what is missing or wrong into one message that names
each setting, what it is for and an example.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0, le=90 * 86_400)]
Count = Annotated[int, Field(ge=1, le=10_000)]
_AMOUNT = "(EUR|CHF|USD|GBP|JPY)=[0-9]{1,15}"


class SettingsError(Exception):
    """The environment does not give a usable configuration. `str()` is the message for the person who starts it."""


def _field(default: Any, description: str, example: str, **limits: Any) -> Any:
    return Field(default, description=description, examples=[example], **limits)


class Settings(BaseSettings):
    """Names of environment variables are the field names in upper case."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    database_url: str = _field(
        ...,
        "PostgreSQL of the pipeline: ledger, inbox, catalogue",
        "postgresql+psycopg://billing:secret@db.example.com:5432/billing",
        pattern=r"^postgresql(\+psycopg)?://",
    )
    temporal_address: str = _field(
        ..., "host:port of the Temporal frontend", "127.0.0.1:7233", pattern=r"^[^:/ ]+:\d{1,5}$"
    )
    temporal_namespace: str = _field("default", "Temporal namespace", "billing", min_length=1)
    temporal_api_key: SecretStr | None = _field(None, "API key of Temporal Cloud; also switches TLS on", "…")
    temporal_tls: bool = _field(False, "TLS to Temporal without an API key", "true")

    stripe_secret_key: SecretStr = _field(..., "Stripe secret key of the platform account", "sk_test_…", min_length=8)
    stripe_webhook_secret: SecretStr = _field(
        ..., "signing secret of the Stripe webhook endpoint", "whsec_…", min_length=8
    )
    stripe_connect_webhook_secret: SecretStr | None = _field(
        None,
        "signing secret of the endpoint for events of connected accounts, which Stripe keeps apart; none: they are "
        "signed with the other one, as the sandbox does",
        "whsec_…",
        min_length=8,
    )
    stripe_base_url: str | None = _field(
        None, "another Stripe API than the real one: the sandbox", "http://127.0.0.1:12111", pattern=r"^https?://"
    )
    stripe_calls_per_second: float = _field(
        25,
        "cap of Stripe steps per second, all workers together (Stripe: 25/s per endpoint, 100/s live per account)",
        "25",
        gt=0,
        le=1_000,
    )
    calcom_api_key: SecretStr = _field(..., "API key of Cal.com, API v2", "cal_live_…", min_length=4)
    calcom_webhook_secret: SecretStr = _field(
        ..., "secret that Cal.com signs webhooks with", "a long random word", min_length=8
    )
    calcom_base_url: str = _field("https://api.cal.com", "Cal.com API", "https://api.cal.eu", pattern=r"^https?://")

    http_timeout_seconds: Seconds = _field(
        20, "time limit of one call to Stripe or Cal.com; longer answers count as unknown, not as failed", "20"
    )
    webhook_host: str = _field("127.0.0.1", "address the webhook app listens on", "0.0.0.0")  # noqa: S104 - an example
    webhook_port: int = _field(8080, "port the webhook app listens on", "8080", ge=0, le=65_535)
    webhook_max_bytes: int = _field(
        1_048_576, "largest accepted webhook body; Stripe and Cal.com send a few kB", "1048576", ge=1_024, le=16_777_216
    )
    relay_interval_seconds: Seconds = _field(
        1, "pause between two looks of the relay for inbox rows that were not delivered", "1"
    )
    relay_max_attempts: Count = _field(
        12, "tries to deliver an event, with doubling pauses, before it is listed as stuck", "12"
    )

    dunning_attempts: int = _field(
        3, "charges tried after soft declines (insufficient funds), the first included", "3", ge=1, le=10
    )
    dunning_interval_seconds: Seconds = _field(
        3 * 86_400, "pause between two dunning attempts: three days, so that a salary can arrive", "259200"
    )
    step_timeout_seconds: Seconds = _field(
        900, "how long a step is retried after unknown outcomes before the chain parks", "900"
    )
    park_recheck_seconds: Seconds = _field(
        86_400, "a parked chain looks again by itself after this time: its deadline", "86400"
    )
    payment_poll_seconds: Seconds = _field(
        86_400, "how often a payment in processing (SEPA) is looked up should its webhook be lost", "86400"
    )
    sweep_interval_seconds: Seconds = _field(
        300, "how often Cal.com is asked for bookings whose webhook was lost; it does not retry", "300"
    )
    settlement_day: int = _field(3, "day of the month on which the last month is settled", "3", ge=1, le=28)
    settlement_hour: int = _field(6, "hour of that day, Europe/Berlin", "6", ge=0, le=23)
    settlement_approval_from_minor: str = _field(
        "EUR=500000",
        "payments to resellers from this amount on need a second person, in minor units of each currency; a currency "
        "that is not named: from the smallest named number of whole units on; empty: no amount needs one",
        "EUR=500000,CHF=500000,JPY=800000",
        pattern=rf"^({_AMOUNT}(,{_AMOUNT})*)?$",
    )
    settlement_negative_months: int = _field(
        3,
        "statements in a row that may end below zero before the reseller's account is parked: a quarter, in which new "
        "commissions usually make up for it",
        "3",
        ge=1,
        le=36,
    )
    settlement_balance_retry_seconds: Seconds = _field(
        6 * 3_600,
        "how often a payment that the balance at Stripe does not cover is tried again: money becomes available daily",
        "21600",
    )
    settlement_balance_patience_seconds: Seconds = _field(
        5 * 86_400,
        "how long such a payment waits before it asks for a person: a top-up by bank transfer takes some working days",
        "432000",
    )

    onboarding_base_url: str | None = _field(
        None,
        "where resellers' browsers reach the webhook app, for links that never expire; Stripe wants https outside of "
        "test mode; none: the app's own host and port",
        "https://billing.example.com",
        pattern=r"^https?://[^/ ]+(/[^ ]*[^/ ])?$",
    )
    onboarding_reminder_seconds: str = _field(
        "259200,604800,1209600",
        "when a reseller who has not finished at Stripe is reminded, counted from his first link: 3, 7 and 14 days; "
        "after the last a person is asked to call him",
        "259200,604800",
        pattern=r"^[0-9]{1,8}(,[0-9]{1,8}){0,9}$",
    )
    onboarding_poll_seconds: Seconds = _field(
        86_400, "how often a waiting reseller's account is read although no webhook told of it", "86400"
    )
    document_issuer_name: str = _field(
        "",
        "the platform's name as credit notes show it (§ 14 UStG); empty: they say that it is missing",
        "Example GmbH",
    )
    document_issuer_address: str = _field(
        "", "its address on credit notes, lines separated by |", "Beispielweg 1|10115 Berlin|DE"
    )
    document_issuer_vat_id: str = _field("", "its VAT id on credit notes", "DE123456789")

    worker_max_activities: Count = _field(64, "steps that one worker runs at a time", "64")
    worker_max_cached_workflows: Count = _field(
        300,
        "chains that one worker keeps in memory, 130 KiB each; more than are active at once, or each step replays",
        "300",
    )
    worker_sandbox: bool = _field(
        False,
        "run workflow code in Temporal's sandbox, which stops at calls that would not replay; takes 1.4 times the CPU",
        "true",
    )
    database_pool_size: Count = _field(16, "connections that one process opens at most", "16")
    metrics_port: int | None = _field(None, "port for Prometheus metrics of the worker", "9464", ge=1, le=65_535)
    log_level: str = _field("INFO", "DEBUG, INFO, WARNING or ERROR", "INFO", pattern=r"^(DEBUG|INFO|WARNING|ERROR)$")

    @property
    def document_issuer(self) -> dict[str, Any] | None:
        """The platform as documents name it: `name`, `address` (lines), `vat_id`. None where no name is set."""
        if not self.document_issuer_name.strip():
            return None
        lines = [line.strip() for line in self.document_issuer_address.split("|")]
        return {
            "name": self.document_issuer_name.strip(),
            "address": [line for line in lines if line],
            "vat_id": self.document_issuer_vat_id.strip() or None,
        }

    @property
    def onboarding_address(self) -> str:
        """`onboarding_base_url`, or the webhook app's own address."""
        host = f"[{self.webhook_host}]" if ":" in self.webhook_host else self.webhook_host
        return self.onboarding_base_url or f"http://{host}:{self.webhook_port}"

    @property
    def onboarding_reminders(self) -> tuple[float, ...]:
        """`onboarding_reminder_seconds` in their order in time."""
        return tuple(sorted(float(part) for part in self.onboarding_reminder_seconds.split(",")))

    @property
    def sqlalchemy_url(self) -> str:
        """The database address with the psycopg driver named, whichever of the two spellings was given."""
        return self.database_url.replace("postgresql://", "postgresql+psycopg://", 1)


def load(**overrides: Any) -> Settings:
    """Settings from the environment. Raises SettingsError with one message that names every wrong setting."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def _explain(error: ValidationError) -> str:
    lines = ["The configuration is not usable. Set these as environment variables or in a file named .env:"]
    for problem in error.errors():
        name = str(problem["loc"][0])
        field = Settings.model_fields[name]
        what = "is missing" if problem["type"] == "missing" else f"is wrong ({problem['msg']})"
        example = (field.examples or [""])[0]
        lines.append(f"  {name.upper()} {what}: {field.description}. Example: {name.upper()}={example}")
    return "\n".join(lines)


def documented() -> list[tuple[str, str, str, str]]:
    """Every setting as (NAME, meaning, default or "required", example), in the order of the model."""
    rows = []
    for name, field in Settings.model_fields.items():
        required = field.default is PydanticUndefined
        default = "required" if required else "" if field.default is None else str(field.default)
        rows.append((name.upper(), field.description or "", default, str((field.examples or [""])[0])))
    return rows
