"""The local stack: Kafka, TimescaleDB and mosquitto fetched, started, watched and stopped without docker.

Start at `stack.Stack`; everything else here is one of its parts.
"""
