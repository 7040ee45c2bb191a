"""How messages move: broker, queues, serialiser, acknowledgement, and what is sent by the clock. Nothing else."""

from kombu import Exchange, Queue  # type: ignore[attr-defined]

from feedmill import settings
from feedmill.fanout.publisher import ALL_QUEUES, HIGH_QUEUE

#: Says that a file which begins with this one is meant for Feedmill's app.
FOR_FEEDMILL = True
#: Seconds between two sweeps for what is overdue.
SWEEP_EVERY = 10.0

broker_url = settings.current().effective_broker_url
broker_connection_retry_on_startup = True
# A broker that swallows packets must not hang the web process; Redis gives back what a dead worker held within seconds.
broker_transport_options = (
    {
        # Longer than the longest task (tasks/tasks.py); a worker warns at start if it is not.
        "visibility_timeout": 3600,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        # Options of the URL, and a prefix of all keys where several deployments share a server.
        **settings.current().broker_options,
    }
    if broker_url.startswith(("redis", "sentinel"))
    else {}
)

# An exchange each: a queue without one would be bound to the default queue's.
task_queues = [
    Queue(name, Exchange(name, type="direct"), routing_key=name)  # type: ignore[no-untyped-call]
    for name in ALL_QUEUES
]
task_default_queue = HIGH_QUEUE

# Never pickle: messages hold names, ids and bytes.
task_serializer = "msgpack"
result_serializer = "msgpack"
accept_content = ["msgpack"]
task_ignore_result = True

# The web process waits a second at most for a broker that is away: the journal has what it could not send.
task_publish_retry_policy = {"max_retries": 2, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5}

# A worker that dies in the middle loses nothing, and a task that runs twice changes nothing the second time.
task_acks_late = True
task_reject_on_worker_lost = True
worker_prefetch_multiplier = 8
worker_consumer = "feedmill.tasks.consumer:DeadLetterConsumer"
worker_cancel_long_running_tasks_on_connection_loss = True

# Sent by one `celery beat`. Sweeps that no worker takes do not pile up.
beat_schedule = {
    "feedmill.sweep": {
        "task": "feedmill.sweep",
        "schedule": SWEEP_EVERY,
        "options": {"queue": HIGH_QUEUE, "expires": SWEEP_EVERY, "ignore_result": True},
    }
}

# Workers import the modules that declare managers and verbs.
imports = settings.current().module_names
