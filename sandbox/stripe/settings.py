"""What the command line can set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Settings:
    """Defaults suit a demo; every duration counts on the stand-in's own clock unless it says otherwise."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 0
    port_file: Path | None = None
    webhook_url: str | None = None
    webhook_secret: str | None = None
    # 0: money is available at once. Stripe: 2 to 7 days.
    available_after_seconds: int = 0
    # None: a SEPA debit waits for the control API. Stripe: 5 business days; its test IBANs: seconds.
    sepa_after_seconds: int | None = 5
    # Stripe's "…Delayed" test IBANs: at least three minutes.
    sepa_delayed_after_seconds: int = 180
    refund_change_after_seconds: int = 5
    payout_after_seconds: int = 2 * DAY_SECONDS
    # Stripe says that search is usually fresh within a minute.
    search_delay_seconds: int = 1
    # None: no limit. Stripe: 25 a second in a sandbox, 100 live; 25 for any one endpoint.
    rate_per_second: int | None = None
    endpoint_rate_per_second: int | None = None
    # Real time, not the stand-in's clock: the first pause between delivery attempts, doubled up to the maximum.
    webhook_retry_seconds: float = 1.0
    webhook_retry_max_seconds: float = 60.0
    webhook_timeout_seconds: float = 10.0
    key_lifetime_seconds: int = DAY_SECONDS
    log_size: int = 5_000
