# SPDX-License-Identifier: MIT
"""Changes of rows in a miner's registry, all in one transaction.

What upstream's ``switch-validator`` and ``update-executor-price`` do is to write one column of one row and nothing
else (read in its sources of 2025-08 and 2025-12), at 2 to 3 seconds each. Here all of them are written together, or
none. An executor's ``uuid`` is never written: its collateral hangs on it.
"""

from __future__ import annotations

import json

from ansible_collections.celium.ops.plugins.module_utils import probe

# Other writers wait while we compare and write; readers do not notice. The values travel as data, one line of JSON,
# and are never part of a statement: JSON has no control characters, so this CSV has one field and no quotes. Text that
# ends early, because we were killed, never reaches the commit.
_SCRIPT = """
begin;
set local lock_timeout = '15s';
lock table executor in share row exclusive mode;
create temporary table asked (document jsonb) on commit drop;
copy asked from stdin (format csv, delimiter e'\\x01', quote e'\\x02');
{document}
\\.
with written as (
    update executor set {columns}
    from asked, jsonb_to_recordset(document->'changes') as new(uuid uuid, validator text, price double precision)
    where executor.uuid = new.uuid and document->'seen' = ({registry})::jsonb
    returning 1
)
select count(*) from written;
commit;
"""
_VALIDATOR = "validator = coalesce(new.validator, executor.validator)"
# The column is there since 2025-12.
_PRICE = "price_per_gpu = coalesce(new.price, executor.price_per_gpu)"


def script(changes, seen):
    """Return the script that makes the changes if the registry is still as it was seen; pure.

    Args:
        changes: of each row its ``uuid``, ``validator`` and ``price``; what is null stays as it is.
        seen: all rows of the registry, as ``probe.registry`` returned them.
    """
    priced = any(change["price"] is not None for change in changes)
    return _SCRIPT.format(
        document=json.dumps({"changes": changes, "seen": seen}),
        columns=", ".join([_VALIDATOR, _PRICE] if priced else [_VALIDATOR]),
        registry=probe.REGISTRY_SQL,
    )


def write(changes, seen):
    """Make all the changes and return True, or make none and return False: the registry is not as it was seen.

    Raises OSError with the reason when the database refused; nothing was changed then, unless it did not answer in
    time: read the rows back.
    """
    return int(probe.psql(script(changes, seen), timeout=60)) == len(changes)
