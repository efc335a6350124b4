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

    with _told(note):
        yield events


@contextlib.contextmanager
def compiled():
    """Names of the functions that JAX compiles, or takes from its cache on disk."""
    names = []

    def note(event, duration, fun_name="", **_):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(fun_name)

    with _told(note):
        yield names


@contextlib.contextmanager
def _told(note):
    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
