"""The honest one."""

from tests.provers.common import run

if __name__ == "__main__":
    run()
