"""What JAX traces and compiles while a test looks."""

import contextlib

import jax


@contextlib.contextmanager
def traces():
    """How often JAX traces a function or compiles it, by what it did."""
    events = []

    def note(event, duration, **_):
        if event.startswith("/jax/core/compile/"):
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield events
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
