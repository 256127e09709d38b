"""Steps of the workflows: one class per outside thing, a step and its compensation side by side.

Activities hold ports and the store; they never import a vendor library. Refusals are results, not exceptions: an
exception always means "not known to be done", and Temporal tries the step again with the same idempotency key.
"""
