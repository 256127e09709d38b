"""Property tests run on shared, busy machines: slowness of one example says nothing about the rules."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("domain", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("domain")
