"""Is every number in every sentence true? Each is recomputed by SQL from the stored readings.

Start at `families`: which module recomputes the sentences of a rule. `check` takes the sentences of a database one by
one and compares; `patient` has what SQL finds of one person, `words` how a number is written.
"""
