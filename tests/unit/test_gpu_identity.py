"""Whether cards are what they say, from views made up here."""

import pytest

from celium_ops.gpu import views
from celium_ops.gpu.identity import Views, cross_check

# A host of two genuine cards, and what may be wrong with it


def genuine(index):
    return {
        "uuid": f"GPU-{index}",
        "name": "NVIDIA H200",
        "memory_mib": 143771,
        "capability": "9.0",
        "cores": 132 * 128,
        "pci": {"address": f"0000:0{index}:00.0", "board": "10DE:2335", "subsystem": "10DE:18BE"},
    }


def host(change=lambda _: None, **more):
    found = {
        "nvml": {"cards": [genuine(0), genuine(1)]},
        "kernel": [{"uuid": f"GPU-{n}", "name": "NVIDIA H200", "address": f"0000:0{n}:00.0"} for n in (0, 1)],
        "bus": [{"address": f"0000:0{n}:00.0", "board": "10DE:2335"} for n in (0, 1)],
        "torch": [
            {"uuid": f"GPU-{n}", "name": "NVIDIA H200", "sm": 132, "memory_mib": 142_000, "capability": "9.0"}
            for n in (1, 0)
        ],
        **more,
    }
    change(found)
    return cross_check(Views(**found))


def test_genuine_cards_pass_every_check_in_whatever_order_the_views_have_them():
    checks = host()
    assert {check.status for check in checks} == {"pass"}, [check for check in checks if check.status != "pass"]
    assert {check.card for check in checks} == {None, "GPU-0", "GPU-1"}


def second(view, **values):
    """Return what changes the second card as one view has it."""

    def change(found):
        cards = found["nvml"]["cards"] if view == "nvml" else found[view]
        next(card for card in cards if "1" in (card.get("uuid") or card["address"])).update(values)

    return change


H20 = {"address": "0000:01:00.0", "board": "10DE:2329", "subsystem": ""}

FLAWS = {
    "a name that another board has": (second("nvml", pci=H20), {"gpu.bus", "gpu.name"}),
    "another board on the bus": (second("bus", board="10DE:2329"), {"gpu.bus"}),
    "the same UUID twice": (second("nvml", uuid="GPU-0"), {"gpu.uuids"}),
    "a card that the kernel does not have": (lambda found: found["kernel"].pop(), {"gpu.count.kernel", "gpu.kernel"}),
    "a card that CUDA does not have": (lambda found: found["torch"].pop(0), {"gpu.count.torch", "gpu.torch"}),
    "a slice of a card": (second("torch", sm=16), {"gpu.sm", "gpu.cores"}),
    "modified memory": (second("nvml", memory_mib=2 * 143771), {"gpu.memory", "gpu.torch.memory"}),
    "CUDA with more memory than there is": (second("torch", memory_mib=150_000), {"gpu.torch.memory"}),
    "other silicon": (second("nvml", capability="8.9"), {"gpu.capability", "gpu.torch.capability"}),
    "a preload": (lambda found: found.update(tampering=["LD_PRELOAD=/x.so"]), {"gpu.tampering"}),
}


@pytest.mark.parametrize(("change", "failed"), FLAWS.values(), ids=FLAWS)
def test_each_lie_is_seen_by_whoever_can_see_it(change, failed):
    found = {(check.id, check.card) for check in host(change) if check.status == "fail"}
    assert {id_ for id_, _ in found} == failed
    assert {card for _, card in found} <= {None, "GPU-1"}


def test_a_model_that_is_not_in_the_table_is_not_judged_by_it():
    def unknown(found):
        board = {"address": "0000:00:00.0", "board": "10DE:FFFF", "subsystem": ""}
        found["nvml"]["cards"][0].update(name="NVIDIA X1", pci=board, memory_mib=146_000)
        for view in ("kernel", "torch"):
            next(one for one in found[view] if one["uuid"] == "GPU-0")["name"] = "NVIDIA X1"
        found["bus"][0]["board"] = "10DE:FFFF"

    of_card = {check.id: check.status for check in host(unknown) if check.card == "GPU-0"}
    assert "fail" not in of_card.values()
    assert (of_card["gpu.name"], of_card["gpu.model"]) == ("unknown", "unknown")


def test_what_could_not_be_seen_is_unknown_or_unsupported_and_never_wrong():
    def blind(found):
        found.update(kernel=None, bus=None, torch=None)
        found["nvml"]["cards"][0].update(memory_mib=None, cores=None, pci=None)

    states = {check.status for check in host(blind)}
    assert states == {"pass", "unknown", "unsupported"}


# The views themselves


def test_views_are_read_from_the_files_of_a_host(tmp_path):
    for path, text in {
        "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA H200\nGPU UUID: \t GPU-1\n",
        "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
        "sys/bus/pci/devices/0000:01:00.0/device": "0x2335\n",
        "sys/bus/pci/devices/0000:01:00.0/class": "0x030200\n",
        "sys/bus/pci/devices/0000:02:00.0/vendor": "0x10de\n",
        "sys/bus/pci/devices/0000:02:00.0/device": "0x22a3\n",
        "sys/bus/pci/devices/0000:02:00.0/class": "0x068000\n",
        "etc/ld.so.preload": "/opt/x.so\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert views.kernel_view(tmp_path) == [{"uuid": "GPU-1", "name": "NVIDIA H200", "address": "0000:01:00.0"}]
    assert views.bus_view(tmp_path) == [{"address": "0000:01:00.0", "board": "10DE:2335"}], "an NVSwitch is no card"
    found = views.tampering(tmp_path, {"LD_PRELOAD": "/y.so", "HOME": "/root"})
    assert found == ["LD_PRELOAD=/y.so", "/etc/ld.so.preload: /opt/x.so"]


def test_a_host_without_a_driver_shows_nothing(tmp_path):
    assert (views.kernel_view(tmp_path), views.bus_view(tmp_path), views.tampering(tmp_path, {})) == (None, None, [])
