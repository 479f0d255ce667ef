"""Deterministic simulation: the doors' core, the processor, the detectors and the alert engine in one thread.

No Kafka and no PostgreSQL: a log, a consumer group and the tables are models here (``kafka``, ``store``, ``tables``),
the clock is driven and every choice comes from one seed. What runs on them is the real thing: `ingest.intake`,
`services.processor.consumer.StreamLoop` with its worker, `OutboxRelay`'s sending and the stream's reading of alert
events. Everything that waits, waits at a gate (``loop``); the scheduler (``world``) opens one gate after another,
lets processes crash, freeze and be replaced at any of them, and the judge (``judge``, ``oracle``) knows nothing of
the system's code. Read: ``world``, then ``plan``, ``judge``.

    python -m tests.sim --seeds 200            # any failing seed is printed with the command that repeats it
    python -m tests.sim --start 17 --seeds 1 --history
    python -m tests.sim --bugs                 # each planted bug until it is found
"""
