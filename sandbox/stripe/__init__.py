"""A stand-in for Stripe's HTTP API, one process, its state in one SQLite file.

Run it with ``python -m sandbox.stripe --port 0 --data-dir DIR``. It speaks the same wire format as api.stripe.com
(form-encoded requests, JSON answers, idempotency keys, signed webhooks) and refuses what Stripe refuses. What a
person would do in Stripe's dashboard, at a bank or in time itself is done through ``/_sandbox/`` (see ``control``).

Where it knowingly differs from Stripe:

* A declining test card can be attached to a customer (Stripe refuses that), because what matters is the saved card
  that declines later.
* An unknown parameter is one that this stand-in does not act on; Stripe knows a few hundred more.
* Fees are 1.5 % + 25 cents a card charge and 35 cents a SEPA debit. There is no currency conversion.
"""
