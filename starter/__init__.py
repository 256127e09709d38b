"""All that starts or signals workflows: the webhook app, the relay behind its inbox, routing, schedules, operators' calls."""
