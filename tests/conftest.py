"""Shared by all tests."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

# celium-ops, ansible and ansible-playbook are those of the environment the tests run in, however pytest was started.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

# A shell that starts us in the background has interrupts ignored, and what we start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long a machine takes for an example says nothing of our code: others may be at work on it.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
