"""PostgreSQL: tables, migrations and repositories. Nothing else in the system speaks SQL."""

from store.database import Store, Tx, driver_url, migrate, schema_is_current

__all__ = ["Store", "Tx", "driver_url", "migrate", "schema_is_current"]
