"""Pure rules of billing: no I/O, no clock, no chance. Standard library and pydantic only."""
