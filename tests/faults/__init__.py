"""The fault harness: a whole system under load, one fault at a seeded moment, and a checker apart from it.

Start at `matrix` (what a row is) and `trial` (what happens in one); `python -m tests.faults --list` names the rows.
"""
