"""A local stand-in for Cal.com's API v2 and its webhooks, as a real HTTP server: `python -m sandbox.calcom`.

State is on disk: a killed server remembers its bookings and webhooks. It imports nothing of the product.
"""
