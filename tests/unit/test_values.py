import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celium_ops.fleet.values import WrongValueError, check, is_lasting

HOTKEY = "5F7X5UpKSr26KU3jKfpLmT8kuKtBNyHhEnfS8xtxPCqCb13p"

GOOD = [
    ("port", 8001, 8001),
    ("port", "8001", 8001),
    ("port", 65535, 65535),
    ("ss58", HOTKEY, HOTKEY),
    ("port_range", "40000-40100", "40000-40100"),
    ("port_range", "9001, 9002, 9003", "9001,9002,9003"),
    ("port_range", 9001, "9001"),
    ("port_mappings", "[[1, 2], [3, 4]]", [[1, 2], [3, 4]]),
    ("port_mappings", [[20000, 30000]], [[20000, 30000]]),
    ("image", "127.0.0.1:5000/a/b@sha256:" + "0" * 64, "127.0.0.1:5000/a/b@sha256:" + "0" * 64),
    ("float", "2.5", 2.5),
    ("count", "8", 8),
    ("count", 1, 1),
    ("amount", 0, 0.0),
    ("amount", "0.5", 0.5),
    ("path", "~/wallets", "~/wallets"),
    ("name", "my wallet #1", "my wallet #1"),
    ("mount_name", 'my wallet $1 "é" 🜲', 'my wallet $1 "é" 🜲'),
    ("mount_path", "/srv/wallets $1", "/srv/wallets $1"),
    ("mount_path", "~/.bittensor/wallets", "~/.bittensor/wallets"),
    ("db_name", "compute-subnet-db", "compute-subnet-db"),
    ("db_name", "a_b.c~D-9", "a_b.c~D-9"),
    ("percent", "50", 50),
    ("percent", 100, 100),
    ("hotkeys", [HOTKEY], [HOTKEY]),
    ("hotkeys", [], []),
    ("bool", False, False),
    ("device", "/dev/nvme1n1", "/dev/nvme1n1"),
    ("device", "/dev/disk/by-id/nvme-eui.0025_A:1+x", "/dev/disk/by-id/nvme-eui.0025_A:1+x"),
    ("device", "/dev/mapper/vg-docker", "/dev/mapper/vg-docker"),
    ("sysctls", {"vm.swappiness": 10}, {"vm.swappiness": "10"}),
    ("sysctls", {"net.ipv4.tcp_rmem": "4096\t 131072 6291456"}, {"net.ipv4.tcp_rmem": "4096 131072 6291456"}),
    ("sysctls", {"net/ipv4/conf/eth0.1/rp_filter": 2}, {"net/ipv4/conf/eth0.1/rp_filter": "2"}),
    ("pools", [], []),
    ("pools", [{"base": "10.200.0.0/16", "size": "24"}], [{"base": "10.200.0.0/16", "size": 24}]),
    (
        "pools",
        [{"base": "172.24.0.0/16", "size": 16}, {"base": "192.168.0.0/20", "size": 29}],
        [{"base": "172.24.0.0/16", "size": 16}, {"base": "192.168.0.0/20", "size": 29}],
    ),
]

BAD = [
    ("count", 0),
    ("count", -1),
    ("count", True),
    ("count", 1.5),
    ("amount", -0.1),
    ("amount", True),
    ("amount", "nan"),
    ("path", "~nobody-of-this-name/wallets"),
    ("mount_name", "a:b"),
    ("mount_name", "a/b"),
    ("mount_name", ".."),
    ("mount_name", "a\u2028b"),
    ("mount_name", "a\x7fb"),
    ("mount_path", "wallets"),
    ("mount_path", "/srv/a:b"),
    ("mount_path", "/srv/a\tb"),
    ("db_name", "my db"),
    ("db_name", "a/b"),
    ("db_name", "a?b"),
    ("db_name", "a%20b"),
    ("db_name", "datenbänke"),
    ("db_name", ""),
    ("db_name", ["a"]),
    ("percent", 101),
    ("percent", -1),
    ("percent", 0.5),
    ("hotkeys", HOTKEY),
    ("hotkeys", [HOTKEY[:-1]]),
    ("port", 0),
    ("port", 65536),
    ("port", True),
    ("port", "http"),
    ("port", "8001.0"),
    ("int", "1e3"),
    ("float", "2,5"),
    ("bool", "yes"),
    ("device", "nvme1n1"),
    ("device", "/dev"),
    ("device", "/dev/"),
    ("device", "/srv/disk.img"),
    ("device", "/dev/../etc/passwd"),
    ("device", "/dev/disk/.."),
    ("device", "/dev/sd$(reboot)"),
    ("device", "UUID=1234"),
    ("device", 7),
    ("path", "wallets"),
    ("str", "two\nlines"),
    ("str", ""),
    ("str", {}),
    ("ss58", ""),
    ("ss58", HOTKEY[:-1]),
    ("ss58", HOTKEY + " "),
    ("ss58", "0x" + "00" * 32),
    ("image", "Has Spaces"),
    ("image", "a@sha256:123"),
    # Forms that upstream's validator chokes on, or silently finds no port in (run 2026-11-20).
    ("port_range", "40100-40000"),
    ("port_range", "9001,9002,"),
    ("port_range", "9001;9002"),
    ("port_range", "9001-9002,9005-9006"),
    ("port_range", "65530-70000"),
    ("port_range", "0-10"),
    ("port_range", "9001,9001,9001"),
    ("port_mappings", "{}x"),
    ("port_mappings", [[1]]),
    ("port_mappings", [["a", 2]]),
    ("port_mappings", [[1, 70000]]),
    ("list", "a"),
    ("dict", []),
    ("sysctls", ["vm.swappiness=10"]),
    ("sysctls", {"swappiness": 10}),
    ("sysctls", {"../etc/passwd": 10}),
    ("sysctls", {"vm.swappiness; reboot": 10}),
    ("sysctls", {"vm.swappiness": True}),
    ("sysctls", {"vm.swappiness": ""}),
    ("sysctls", {"vm.swappiness": "10\nkernel.sysrq=1"}),
    ("pools", "10.200.0.0/16"),
    ("pools", 10),
    ("pools", ["10.200.0.0/16"]),
    ("pools", [{"base": "10.200.0.0/16"}]),
    ("pools", [{"base": "10.200.0.0/16", "size": 24, "bip": "x"}]),
    ("pools", [{"base": "10.200.0.1/16", "size": 24}]),
    ("pools", [{"base": "10.200.0.0/16", "size": "small"}]),
    ("pools", [{"base": "10.200.0.0/16", "size": 15}]),
    ("pools", [{"base": "10.200.0.0/16", "size": 30}]),
    ("pools", [{"base": "172.0.0.0/8", "size": 24}]),
    ("pools", [{"base": "172.80.0.0/16", "size": 24}]),
    ("pools", [{"base": "fd00::/64", "size": 80}]),
    ("pools", [{"base": "10.200.0.0/16", "size": 24}, {"base": "10.0.0.0/8", "size": 24}]),
]


@pytest.mark.parametrize(("kind", "value", "expected"), GOOD)
def test_a_good_value_is_taken(kind, value, expected):
    assert check(kind, value) == expected


LASTING = [
    ("/dev/sdb", False),
    ("/dev/vda", False),
    ("/dev/xvdf", False),
    ("/dev/nvme1n1", False),
    ("/dev/md127", False),
    ("/dev/dm-0", False),
    ("/dev/disk/by-id/nvme-X_1", True),
    ("/dev/disk/by-path/pci-0000:01:00.0-nvme-1", True),
    ("/dev/mapper/vg-docker", True),
    ("/dev/vg/docker", True),
    ("/dev/md/docker", True),
]


@pytest.mark.parametrize(("device", "lasting"), LASTING)
def test_a_name_that_another_disk_may_have_after_a_boot_is_known(device, lasting):
    assert is_lasting(check("device", device)) is lasting


@pytest.mark.parametrize(("kind", "value"), BAD)
def test_a_bad_value_says_what_was_expected(kind, value):
    with pytest.raises(WrongValueError, match=r"\w{4}"):
        check(kind, value)


@given(place=st.integers(0, 47), letter=st.sampled_from("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"))
def test_one_wrong_letter_in_an_address_is_noticed(place, letter):
    wrong = HOTKEY[:place] + letter + HOTKEY[place + 1 :]
    if wrong == HOTKEY:
        assert check("ss58", wrong) == HOTKEY
        return
    with pytest.raises(WrongValueError):
        check("ss58", wrong)


NAMES = ["name", "mount_name", "mount_path", "db_name"]


@given(
    st.sampled_from(
        [*("port", "int", "float", "ss58", "port_range", "port_mappings"), *("image", "path", "str"), *NAMES]
    ),
    st.text(),
)
def test_no_text_makes_a_checker_stumble(kind, text):
    with contextlib.suppress(WrongValueError):
        check(kind, text)
