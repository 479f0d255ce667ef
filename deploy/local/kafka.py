"""Apache Kafka, one broker that is its own controller (KRaft), tuned to start fast and stay small."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shutil
import signal
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from deploy.local import java, paths
from deploy.local.command import megabytes, run
from deploy.local.errors import Report, StackError
from deploy.local.server import Context, NotReadyError

POM = Path(__file__).parents[1] / "kafka" / "pom.xml"
PROBE_TOPIC = "keepwell.probe"
MAVEN_S = 900.0
FORMAT_S = 60.0
FLAGS = (
    "-Xms96m -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -XX:+ExitOnOutOfMemoryError "
    "-Djava.awt.headless=true"
).split()

CONFIG = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{kafka},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{kafka}
controller.listener.names=CONTROLLER
log.dirs={data}/log
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=6
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
message.max.bytes=2097152
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=8388608
num.network.threads=2
num.io.threads=4
background.threads=2
"""

LOGGING = """\
<Configuration status="ERROR" shutdownHook="disable">
  <Appenders>
    <Console name="out" target="SYSTEM_OUT"><PatternLayout pattern="%d{ISO8601} %p %c{1} %m%n"/></Console>
  </Appenders>
  <Loggers>
    <Root level="WARN"><AppenderRef ref="out"/></Root>
    <Logger name="org.apache.kafka.common.config" level="ERROR"/>
  </Loggers>
</Configuration>
"""


class Kafka:
    """The broker."""

    name = "kafka"
    stop_signal = signal.SIGTERM
    ready_s = 60.0
    stop_s = 20.0

    def __init__(self, context: Context) -> None:
        self._context = context
        self._data = context.home.data(self.name)
        self._ports = context.state.ports
        self.train_to: Path | None = None

    def prepare(self) -> None:
        """Write the configuration and, the first time, format the log folder."""
        user = self._context.user
        for folder in (self._data / "log", self._data / "tmp"):
            folder.mkdir(exist_ok=True)
            user.own(folder)
        self._context.hand_over(self._data / "log4j2.xml", LOGGING)
        self._context.hand_over(
            self._data / "server.properties", CONFIG.format(data=escaped(self._data), **self._ports)
        )
        if not (self._data / "log" / "meta.properties").exists():
            self._context.report(self.name, "formatting the log folder")
            run(
                [*self._java(), "kafka.tools.StorageTool", "format", "-t", self._context.state.cluster_id,
                 "-c", str(self._data / "server.properties")],
                what="formatting Kafka's log folder", limit_s=FORMAT_S, cwd=self._data,
                env=self._context.environ(self.name), user=user,
            )  # fmt: skip

    def recover(self) -> None:
        """Do nothing: the log folder's lock dies with its holder, and Kafka repairs its log itself."""

    def argv(self) -> list[str]:
        """Return the command to start."""
        return [*self._java(), "kafka.Kafka", str(self._data / "server.properties")]

    def _java(self) -> list[str]:
        program = java.find_java()
        if program is None:
            msg = f"Java >= {java.LEAST} not found; as root: {java.HOW}"
            raise StackError(msg)
        libraries = jars(self._context.programs)
        shared = archive(self._context.programs, program)
        flags = [*FLAGS]
        if self.train_to is not None:
            flags.append(f"-XX:ArchiveClassesAtExit={self.train_to}")
        elif shared.exists():
            flags.append(f"-XX:SharedArchiveFile={shared}")
        classpath = ":".join(str(path) for path in sorted(libraries.glob("*.jar")))
        scratch = self._data / "tmp"
        flags += [f"-Djava.io.tmpdir={scratch}", f"-XX:ErrorFile={scratch / 'crash.log'}"]
        return [program, *flags, f"-Dlog4j2.configurationFile={self._data / 'log4j2.xml'}", "-cp", classpath]

    async def probe(self) -> None:
        """Produce one record and see it acknowledged."""
        await probe(f"127.0.0.1:{self._ports['kafka']}")


def escaped(path: Path) -> str:
    """Return a path as Java reads it from a properties file: Latin-1 with ``\\uXXXX`` for the rest."""
    units = str(path).encode("utf-16-be")
    codes = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    return "".join(chr(code) if 32 <= code < 127 and code != 92 else f"\\u{code:04x}" for code in codes)


async def probe(bootstrap: str) -> None:
    """Produce one record to the probe topic, making the topic the first time.

    Raises:
        NotReadyError: not connected, or not acknowledged.
    """
    host, _, port = bootstrap.split(",")[0].rpartition(":")
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), 2)
        writer.close()
        async with asyncio.timeout(10):
            await _produce(bootstrap)
    except (KafkaError, OSError, TimeoutError) as error:
        msg = f"no acknowledged produce on {bootstrap} yet: {error or type(error).__name__}"
        raise NotReadyError(msg) from error


async def _produce(bootstrap: str) -> None:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5000)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", request_timeout_ms=5000, retry_backoff_ms=20)
    try:
        await admin.start()
        topic = NewTopic(PROBE_TOPIC, 1, 1, topic_configs={"retention.ms": "3600000"})
        await admin.create_topics([topic])
        await producer.start()
        await producer.send_and_wait(PROBE_TOPIC, b"up")
    finally:
        await producer.stop()
        await admin.close()
        logging.getLogger("aiokafka").setLevel(logging.NOTSET)


def jars(programs: Path) -> Path:
    """Return the folder of the broker's jars; an edited pom.xml is another folder."""
    return programs / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"


def archive(programs: Path, program: str) -> Path:
    """Return the class-data archive for these jars and this Java."""
    stat = os.stat(program)
    key = f"{program} {stat.st_size} {stat.st_mtime_ns} {FLAGS}"
    return jars(programs) / f"classes-{hashlib.sha256(key.encode()).hexdigest()[:12]}.jsa"


def fetch(programs: Path, downloads: Path, report: Report) -> Path:
    """Return the folder of the jars, downloading them with Maven first where it is missing.

    Raises:
        StackError: Java or Maven missing, or the download failed.
    """
    folder = jars(programs)
    if (folder / ".complete").exists():
        java.ensure(report, maven=False)
        return folder
    java.ensure(report, maven=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # A Maven repository the caller named in MAVEN_OPTS stays the one used.
    own = [] if paths.maven_repository() else [f"-Dmaven.repo.local={downloads / 'maven'}"]
    run(
        ["mvn", "-B", "-q", "-f", str(POM), *own, "dependency:copy-dependencies", "-DincludeScope=runtime",
         f"-DoutputDirectory={folder}"],
        what="downloading Kafka with Maven", limit_s=MAVEN_S,
        on_tick=lambda: report("kafka", f"downloading 46 jars with Maven, {megabytes(folder):.0f} of 43 MB"),
    )  # fmt: skip
    if not list(folder.glob("kafka_2.13-*.jar")):
        msg = f"Maven ended well but left no broker in {folder}; remove that folder and try again"
        raise StackError(msg)
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)
    (folder / ".complete").touch()
    return folder
