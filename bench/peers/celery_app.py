"""Celery: late acknowledgements, no results, no events, high prefetch; quorum and confirmed on RabbitMQ."""

from celery import Celery

from bench.peers.common import QUEUE, QUEUE_URL, Requests, Work

app = Celery("bench", broker=QUEUE_URL)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_default_queue=QUEUE,
    task_default_queue_type="classic" if QUEUE_URL.startswith("redis") else "quorum",
    task_store_eager_result=False,
    worker_send_task_events=False,
    worker_disable_rate_limits=True,
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options={} if QUEUE_URL.startswith("redis") else {"confirm_publish": True},
)
_works: list[Work] = []


@app.task
def analyse(request: dict) -> None:
    """One request."""
    if not _works:  # after the fork of a prefork pool, not before
        _works.append(Work())
    _works[0](request)


def send(requests: Requests) -> None:
    """One message each."""
    with app.producer_pool.acquire(block=True) as producer:
        for request in requests:
            analyse.apply_async((request,), producer=producer)
