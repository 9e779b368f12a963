"""A processor that says it is two H200: every word of its own is right, and nothing is behind them."""

from celium_ops.gpu.nvml import READINGS
from celium_ops.gpu.prover.prover import Prover
from celium_ops.gpu.prover.worker import Worker
from tests.provers.common import NumpyDevice, TwoCards

CARD = {"name": "NVIDIA H200", "memory_mib": 143771, "sm": 132, "capability": "9.0", "bus_bits": 6144}
PCI = {"address": "0000:{:02x}:00.0", "board": "10DE:2335", "subsystem": "10DE:2335"}


class Small(NumpyDevice):
    def room(self):
        return {512: 24}


class Pretender(Worker):
    def report(self):
        return {**super().report(), "tflops": 780.0}

    def measure(self):
        return {"measures": {"copy_gb_s": 4300.0, "fp32_tflops": 60.0, "fp64_tflops": 60.0}}


class Lies(Prover):
    def say(self, kind, **content):
        if kind == "hello":
            uuids = [f"GPU-{number}" for number in range(2)]
            cards = []
            for number, uuid in enumerate(uuids):
                card = dict.fromkeys(READINGS)
                card |= {key: CARD[key] for key in ("name", "memory_mib", "capability", "bus_bits")}
                pci = {**PCI, "address": PCI["address"].format(number)}
                cards.append({**card, "uuid": uuid, "cores": 132 * 128, "max_sm_clock_mhz": 1980, "pci": pci})
            nvml = {"driver": "580.95.05", "count": 2, "library": None, "cards": cards}
            kernel = [{"uuid": card["uuid"], "name": card["name"], "address": card["pci"]["address"]} for card in cards]
            bus = [{"address": card["pci"]["address"], "board": "10DE:2335"} for card in cards]
            content |= {"nvml": nvml, "kernel": kernel, "bus": bus, "tampering": []}
        if kind == "look":
            content["torch"] = [{**CARD, "uuid": f"GPU-{number}", "memory_mib": 143000} for number in range(2)]
        super().say(kind, **content)


if __name__ == "__main__":
    Lies("cuda", TwoCards(), lambda uuid, beat: Pretender(uuid, Small(pace=0), beat), {}).run()
