"""``python -m celium_ops.gpu.prover``: answers one examination on stdin and stdout."""

from __future__ import annotations

import os
import platform
from typing import Any

import pynvml
import torch

from celium_ops.gpu.prover.device import Device
from celium_ops.gpu.prover.prover import Prover
from celium_ops.gpu.prover.worker import Worker

PACE = 0.06
"""Seconds that a product takes on a simulated card."""


def main(worker: type[Worker] = Worker) -> None:
    """Answer with the cards of this host."""
    mode, pynvml = _mode()

    def make(uuid: str, beat: Any) -> Worker:
        return worker(uuid, Device("cuda" if mode == "cuda" else "cpu", PACE if mode == "simulated" else 0.0), beat)

    about = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "kernel": platform.release(),
        "image": os.environ.get("CELIUM_GPU_PROOF_VERSION"),
    }
    Prover(mode, pynvml, make, about).run()


def _mode() -> tuple[str, Any]:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ("cuda" if torch.version.cuda else "cpu"), None
    return ("cuda" if torch.version.cuda else "simulated"), pynvml


if __name__ == "__main__":
    main()
