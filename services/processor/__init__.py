"""The stream processor: Kafka records in, one PostgreSQL transaction out.

Read in this order: ``consumer`` (the loop), ``batch`` (what happens to a batch), ``core`` (the state in memory),
``intake`` (records to readings), ``settle`` and ``safety`` (calling the detectors), ``episodes`` (alerts).
"""
