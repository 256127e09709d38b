"""Durable workflows: one file each, readable top to bottom. They branch only on what steps recorded."""
