"""Ports of `domain.ports` over the real services: the only users of the vendor libraries."""
