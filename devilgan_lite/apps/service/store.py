"""Jobs, events and reports in a database, through SQLAlchemy: SQLite on one machine, Postgres where it is shared.

A job waits, runs under a lease that its worker renews, and ends as done or failed. Whatever happens to a worker, the
lease runs out and the job waits again, at most ``MOST_ATTEMPTS`` times. Times are seconds since 1970.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError

from devilgan_lite.apps.service.alive import is_gone

MOST_ATTEMPTS = 3
ACTIVE = ("waiting", "running")
GIVEN_UP = f"The check was broken off {MOST_ATTEMPTS} times, so it is not tried again; upload the file to start anew."

tables = sql.MetaData()
jobs = sql.Table(
    "jobs",
    tables,
    sql.Column("id", sql.String(64), primary_key=True),
    sql.Column("owner", sql.String(64), nullable=False),
    sql.Column("name", sql.Text, nullable=False),  # as the client calls the file; only ever shown
    sql.Column("bytes", sql.BigInteger, nullable=False),
    sql.Column("sha256", sql.String(64), nullable=False),
    sql.Column("settings", sql.Text, nullable=False),  # JSON with sorted keys
    sql.Column("state", sql.String(16), nullable=False),
    sql.Column("verdict", sql.String(32), nullable=False, default=""),
    sql.Column("sentence", sql.Text, nullable=False, default=""),
    sql.Column("attempts", sql.Integer, nullable=False, default=0),
    sql.Column("worker", sql.String(200), nullable=False, default=""),
    sql.Column("lease_until", sql.Float(53), nullable=False, default=0.0),
    sql.Column("created", sql.Float(53), nullable=False),
    sql.Column("ended", sql.Float(53)),
    sql.Index("by_state", "state", "created"),
)
# one job for the same bytes and settings of one owner; a failed one may be tried anew
sql.Index(
    "same_bytes",
    jobs.c.owner,
    jobs.c.sha256,
    jobs.c.settings,
    unique=True,
    sqlite_where=jobs.c.state != "failed",
    postgresql_where=jobs.c.state != "failed",
)
events = sql.Table(
    "events",
    tables,
    sql.Column("job", sql.String(64), sql.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sql.Column("number", sql.Integer, primary_key=True),
    sql.Column("content", sql.Text, nullable=False),
)
reports = sql.Table(
    "reports",
    tables,
    sql.Column("job", sql.String(64), sql.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sql.Column("bytes", sql.BigInteger, nullable=False),
    sql.Column("content", sql.Text, nullable=False),
)


@dataclass(frozen=True)
class Job:
    """A row of ``jobs``. ``state``: waiting, running, done or failed; ``verdict`` and ``sentence`` as it has ended."""

    id: str
    owner: str
    name: str
    bytes: int
    sha256: str
    settings: str
    state: str
    verdict: str
    sentence: str
    attempts: int
    worker: str
    lease_until: float
    created: float
    ended: float | None


class Store:
    """The database at ``url``; tables are made where they are missing. Safe for several threads and processes."""

    def __init__(self, url: str, *, lease_seconds: float = 60.0) -> None:
        self.lease_seconds = lease_seconds
        try:
            self.engine = sql.create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=40)
            if self.engine.dialect.name == "sqlite":
                sql.event.listen(self.engine, "connect", _prepare_sqlite)
                sql.event.listen(self.engine, "begin", _begin_sqlite)
            with self._writing() as connection:
                if self.engine.dialect.name == "postgresql":  # of servers that start together, one makes the tables
                    connection.execute(sql.text("SELECT pg_advisory_xact_lock(8765)"))
                tables.create_all(connection)
        except (ArgumentError, DBAPIError) as error:  # without its text, which may hold a password
            said = f"the database cannot be opened ({type(error).__name__})"
            raise ValueError(f"{said}; a URL is like postgresql://user@host/name or sqlite:///file.db.") from None

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def _writing(self) -> Iterator[sql.Connection]:
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[sql.Connection]:
        with self.engine.connect().execution_options(reading=True) as connection:
            yield connection

    def add(self, id: str, *, owner: str, name: str, size: int, sha256: str, settings: dict[str, Any]) -> Job:
        """A job for these bytes: the owner's own of the same bytes and settings, or a new one called ``id``.

        A new one is done at once where somebody's report of the same bytes and settings is there.
        """
        plain = json.dumps(settings, sort_keys=True)
        same = sql.and_(jobs.c.sha256 == sha256, jobs.c.settings == plain)
        mine = sql.select(jobs).where(same, jobs.c.owner == owner, jobs.c.state != "failed")
        for _ in range(5):
            try:
                with self._writing() as connection:
                    if row := connection.execute(mine).first():
                        return Job(*row)
                    now = time.time()
                    new: dict[str, Any] = {"state": "waiting", "created": now}
                    done = sql.select(jobs).where(same, jobs.c.state == "done").limit(1)
                    twin = connection.execute(done.with_for_update(read=True)).first()
                    if twin:
                        new |= {"state": "done", "verdict": twin.verdict, "sentence": twin.sentence, "ended": now}
                    asked = {"id": id, "owner": owner, "name": name, "bytes": size, "sha256": sha256}
                    connection.execute(sql.insert(jobs).values(**asked, settings=plain, **new))
                    if twin:
                        for table in (events, reports):
                            others = [column for column in table.c if column.name != "job"]
                            copied = sql.select(sql.literal(id), *others).where(table.c.job == twin.id)
                            names = ["job", *(column.name for column in others)]
                            connection.execute(sql.insert(table).from_select(names, copied))
                    return Job(*connection.execute(sql.select(jobs).where(jobs.c.id == id)).one())
            except IntegrityError:  # the same bytes arrived twice at this moment, and the other was quicker
                continue
        raise RuntimeError("the job could not be stored")

    def get(self, id: str, owner: str) -> Job | None:
        """The job, if it is this owner's."""
        with self._reading() as connection:
            row = connection.execute(sql.select(jobs).where(jobs.c.id == id, jobs.c.owner == owner)).first()
        return Job(*row) if row else None

    def recent(self, owner: str, most: int = 50) -> list[Job]:
        """The owner's newest jobs, newest first."""
        asked = sql.select(jobs).where(jobs.c.owner == owner).order_by(jobs.c.created.desc()).limit(most)
        with self._reading() as connection:
            return [Job(*row) for row in connection.execute(asked)]

    def count(self, *states: str, owner: str | None = None) -> int:
        """How many jobs are in one of ``states``, of everybody or of one owner."""
        asked = sql.select(sql.func.count()).select_from(jobs).where(jobs.c.state.in_(states))
        with self._reading() as connection:
            return connection.execute(asked if owner is None else asked.where(jobs.c.owner == owner)).scalar_one()

    def claim(self, worker: str) -> Job | None:
        """Take the next job under a lease; among those who wait, an owner with fewer running jobs comes first."""
        if not self.count("waiting"):  # workers ask often, and on SQLite only one at a time may write
            return None
        others = jobs.alias()
        running = sql.select(sql.func.count()).where(others.c.owner == jobs.c.owner, others.c.state == "running")
        order = (running.scalar_subquery(), jobs.c.created)
        waiting = sql.select(jobs.c.id).where(jobs.c.state == "waiting").order_by(*order).limit(1)
        with self._writing() as connection:
            id = connection.execute(waiting.with_for_update(skip_locked=True, of=jobs)).scalar()
            if id is None:
                return None
            lease: dict[str, Any] = {"worker": worker, "lease_until": time.time() + self.lease_seconds}
            lease |= {"state": "running", "attempts": jobs.c.attempts + 1}
            change = sql.update(jobs).where(jobs.c.id == id).values(lease)
            return Job(*connection.execute(change.returning(*jobs.c)).one())

    def renew(self, id: str, worker: str) -> bool:
        """Renew the lease; False where the job is no longer this worker's: it was deleted or taken up by another."""
        return self._change(id, worker, {"lease_until": time.time() + self.lease_seconds})

    def hand_back(self, id: str, worker: str) -> bool:
        """Let the job wait again; this attempt does not count, because it ended with the worker and not by the file."""
        return self._change(id, worker, {"state": "waiting", "worker": "", "attempts": jobs.c.attempts - 1})

    def tell(self, id: str, worker: str, content: dict[str, Any]) -> bool:
        """Add an event, with the next number of its job; False where the job is no longer this worker's."""
        with self._writing() as connection:
            if not connection.execute(self._held(sql.update(jobs), id, worker).values(worker=worker)).rowcount:
                return False
            last = sql.select(sql.func.coalesce(sql.func.max(events.c.number), 0) + 1).where(events.c.job == id)
            connection.execute(
                sql.insert(events).values(job=id, number=last.scalar_subquery(), content=json.dumps(content))
            )
            return True

    def finish(self, id: str, worker: str, report: dict[str, Any] | None, *, verdict: str, sentence: str) -> bool:
        """End the job: done with its ``report``, or failed without one. False where it is no longer this worker's."""
        ended = {"state": "failed" if report is None else "done", "ended": time.time()}
        change = self._held(sql.update(jobs), id, worker).values(verdict=verdict, sentence=sentence, **ended)
        with self._writing() as connection:
            if not connection.execute(change).rowcount:
                return False
            if report is not None:
                text = json.dumps(report)
                connection.execute(sql.insert(reports).values(job=id, bytes=len(text), content=text))
            return True

    def take_back(self) -> list[Job]:
        """Let the jobs wait again whose lease has run out or whose worker is gone; after the last attempt they fail."""
        with self._reading() as connection:
            running = [Job(*row) for row in connection.execute(sql.select(jobs).where(jobs.c.state == "running"))]
        lost = [job for job in running if job.lease_until < time.time() or is_gone(job.worker)]
        for job in lost:
            if job.attempts < MOST_ATTEMPTS:
                change: dict[str, Any] = {"state": "waiting", "worker": ""}
            else:
                change = {"state": "failed", "ended": time.time(), "sentence": GIVEN_UP}
            same = self._held(sql.update(jobs), job.id, job.worker).where(jobs.c.lease_until == job.lease_until)
            with self._writing() as connection:  # only as it was seen: its worker may have renewed it just now
                connection.execute(same.values(**change))
        return lost

    def events(self, id: str, after: int = 0) -> list[tuple[int, dict[str, Any]]]:
        """Number and content of the job's events whose number is above ``after``, in order."""
        asked = sql.select(events.c.number, events.c.content).where(events.c.job == id, events.c.number > after)
        asked = asked.order_by(events.c.number)
        with self._reading() as connection:
            return [(number, json.loads(content)) for number, content in connection.execute(asked)]

    def report(self, id: str) -> dict[str, Any] | None:
        """The report, as plain data."""
        with self._reading() as connection:
            text = connection.execute(sql.select(reports.c.content).where(reports.c.job == id)).scalar()
        return None if text is None else json.loads(text)

    def delete(self, id: str, owner: str) -> bool:
        """Forget the owner's job with its events and its report; whether there was one."""
        with self._writing() as connection:
            change = sql.delete(jobs).where(jobs.c.id == id, jobs.c.owner == owner)
            return connection.execute(change).rowcount > 0

    def forget(self, before: float) -> int:
        """Forget what ended before this time; how many jobs that were."""
        with self._writing() as connection:
            return connection.execute(sql.delete(jobs).where(jobs.c.ended < before)).rowcount

    def report_bytes(self) -> int:
        """The size of all reports together."""
        with self._reading() as connection:
            return int(connection.execute(sql.select(sql.func.coalesce(sql.func.sum(reports.c.bytes), 0))).scalar_one())

    def active(self) -> set[str]:
        """The ids of the jobs that still need their upload."""
        with self._reading() as connection:
            return set(connection.execute(sql.select(jobs.c.id).where(jobs.c.state.in_(ACTIVE))).scalars())

    def _held(self, change: Any, id: str, worker: str) -> Any:
        return change.where(jobs.c.id == id, jobs.c.worker == worker, jobs.c.state == "running")

    def _change(self, id: str, worker: str, values: dict[str, Any]) -> bool:
        with self._writing() as connection:
            return connection.execute(self._held(sql.update(jobs), id, worker).values(values)).rowcount > 0


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin below, not where the driver thinks that they should
    for pragma in ("journal_mode=WAL", "busy_timeout=30000", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sql.Connection) -> None:
    if not connection.get_execution_options().get("reading"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # a transaction that starts by reading could not wait its turn
