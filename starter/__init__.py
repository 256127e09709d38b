"""All that starts or signals workflows: webhook app, relay behind its inbox, routing, schedules, operators' calls."""
