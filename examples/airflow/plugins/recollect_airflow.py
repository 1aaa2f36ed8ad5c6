"""An Airflow operator that gives its slot back while a file of payloads is worked on, and its trigger.

This file and recollect_run.py belong where every Airflow process finds them (the plugins folder, or
installed), not into a Dag bundle: the triggerer imports the trigger, and reads no bundles. All of them need
recollect and RECOLLECT_BROKER_URL; the password in it is therefore in no table of Airflow's.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import recollect_run
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.triggers.base import BaseTrigger, TriggerEvent
from recollect_run import RowsFailed, Run, check_may_fail, depth, queue_of


@contextlib.contextmanager
def _verdicts() -> Iterator[None]:
    """What Airflow is to make of an error: a retry, or none where it would be in vain."""
    try:
        yield
    except ValueError as error:
        raise AirflowFailException(str(error)) from None
    except RowsFailed as error:
        raise (AirflowFailException if error.in_vain else AirflowException)(str(error)) from None


def map_file(
    source: str, target: str, *, model: str | None = None, may_fail: int | str = 0
) -> dict[str, int]:
    """`recollect_run.map_file` for a task: fails, without a retry where that would be in vain."""
    with _verdicts():
        return recollect_run.map_file(source, target, model=model, may_fail=int(may_fail))


class MapFile(BaseOperator):
    """A reply for every row of `source`, in `target`; returns how many of each outcome.

    Its reply queue is called `run_name`, 1 to 31 of A-Z a-z 0-9 _ -, with a digest of Dag, run, task and map
    index behind it: all tries of a task share it, and nothing else does. A target is for one task at a time;
    while one writes beside it, another is refused, be it a try that was given up and lives.

    What has no reply after `patience_seconds` fails the try; the next one asks for that only, and what was
    answered meanwhile is a hit. Where more than `may_fail` rows failed, the try fails and `target` is not
    made; the next one asks again for those whose `error.retryable` is true, and there is none where too many
    are not. All replies so far are in `target.partial`.

    Marking the task failed while it waits stops nothing: what is enqueued is worked on, and remembered.
    (Airflow calls `on_kill` only where a process of the task runs, and a trigger's `cleanup` also when a
    triggerer merely restarts: neither is a place to cancel.)
    """

    template_fields = ("source", "target", "may_fail")

    def __init__(
        self,
        *,
        source: str,
        target: str,
        run_name: str,
        model: str | None = None,
        may_fail: int | str = 0,
        poll_seconds: float = 10.0,
        patience_seconds: float = 6 * 3600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        queue_of(run_name)  # a name that cannot be is refused with the Dag
        self.source, self.target, self.run_name, self.model = source, target, run_name, model
        self.may_fail = may_fail
        self.poll_seconds, self.patience_seconds = poll_seconds, patience_seconds

    def execute(self, context: Any) -> dict[str, int]:
        """Ask for what has no reply yet, and leave the slot."""
        with _verdicts():
            check_may_fail(int(self.may_fail))
            run = self._run(context)
            run.collect()  # what a try that died left in the queue
            run.forget_failures()
            self.log.info("enqueued %d requests", run.ask(model=self.model))
            return self._go_on(run, self.reply_queue(context), time.time() + self.patience_seconds)

    def take(self, context: Any, event: dict[str, Any]) -> dict[str, int]:
        """Back in a slot: take what is there."""
        self.log.info("%s messages of replies are there", event["waiting"])
        with _verdicts():
            run = self._run(context)
            run.collect()
            return self._go_on(run, self.reply_queue(context), event["end"])

    def reply_queue(self, context: Any) -> str:
        """The name of the reply queue of the task that runs."""
        ti = context["ti"]
        return queue_of(self.run_name, ti.dag_id, ti.run_id, ti.task_id, ti.map_index)

    def _run(self, context: Any) -> Run:
        queue = self.reply_queue(context)
        return Run(self.source, self.target, run_name=queue, key=queue)

    def _go_on(self, run: Run, queue: str, end: float) -> dict[str, int]:
        missing = len(run.missing())
        if not missing:
            return run.finish(may_fail=int(self.may_fail))
        if time.time() >= end:
            raise AirflowException(f"{missing} rows have no reply after {self.patience_seconds:.0f} s")
        trigger = RepliesThere(queue, run.messages(), end, self.poll_seconds)
        return self.defer(trigger=trigger, method_name="take")


class RepliesThere(BaseTrigger):
    """Fires when `least` messages wait in a run's reply queue, or at `end` (Unix seconds).

    It only asks how many there are: it may run twice, or die, and every reply is still there for the task.
    """

    def __init__(self, run_name: str, least: int, end: float, poll_seconds: float) -> None:
        super().__init__()
        self.run_name, self.least, self.end, self.poll_seconds = run_name, least, end, poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """See BaseTrigger."""
        names = ("run_name", "least", "end", "poll_seconds")
        return "recollect_airflow.RepliesThere", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """See BaseTrigger."""
        while True:
            waiting = await asyncio.to_thread(depth, self.run_name)
            if waiting >= self.least or time.time() >= self.end:
                yield TriggerEvent({"waiting": waiting, "end": self.end})
                return
            self.log.info("%d of %d messages of replies are there", waiting, self.least)
            await asyncio.sleep(self.poll_seconds)
