"""Scores the payloads of a file, each line of which is one, twice.

`deferred` gives its slot back while workers are busy; `waiting` is a plain function in a task, which needs
its slot until the last row is there. The second finds all answers remembered.
"""

from airflow.sdk import dag, task
from recollect_airflow import MapFile, map_file


@dag(
    schedule=None,
    max_active_runs=1,  # a target is for one task at a time
    default_args={"retries": 2},
    params={"source": "rows.jsonl", "target": "scored.jsonl", "may_fail": 0},
)
def score_texts() -> None:
    """Two ways to the same file."""
    deferred = MapFile(
        task_id="deferred",
        source="{{ params.source }}",
        target="{{ params.target }}",
        run_name="score-texts",
        may_fail="{{ params.may_fail }}",
        poll_seconds=1,
    )

    @task
    def waiting(source: str, target: str, may_fail: str) -> dict[str, int]:
        """A task that fails is retried; what was answered before costs a look into the cache."""
        return map_file(source, target, may_fail=may_fail)

    deferred >> waiting("{{ params.source }}", "{{ params.target }}.again", "{{ params.may_fail }}")


score_texts()
