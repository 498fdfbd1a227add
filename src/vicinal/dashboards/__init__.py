"""Dashboards as code: a W&B workspace and a W&B report about a sweep. Knows of sweeps, and nothing knows of it."""
