"""The embedded default: PostgreSQL, Temporal and the processes around them on one machine, without containers."""
