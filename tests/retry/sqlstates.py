"""What each SQLSTATE means for a retry; the list that the tests expect."""

from __future__ import annotations

from unitofwork.policies.retrying import Fate

SQLSTATES = {
    "40001": Fate.RETRY,
    "40P01": Fate.RETRY,
    "55P03": Fate.RETRY,
    "26000": Fate.RETRY,
    "25006": Fate.RETRY_ON_NEW_CONNECTIONS,
    "57P01": Fate.RETRY_WITHIN_BUDGET,
    "57P02": Fate.RETRY_WITHIN_BUDGET,
    "57P03": Fate.RETRY_WITHIN_BUDGET,
    "08000": Fate.RETRY_WITHIN_BUDGET,
    "08001": Fate.RETRY_WITHIN_BUDGET,
    "08003": Fate.RETRY_WITHIN_BUDGET,
    "08006": Fate.RETRY_WITHIN_BUDGET,
    "25P03": Fate.NEVER,
    "25P04": Fate.NEVER,
    "25P02": Fate.UNDECIDED,
    "23505": Fate.NEVER,  # unique_violation
    "23503": Fate.NEVER,  # foreign_key_violation
    "23514": Fate.NEVER,  # check_violation
    "40002": Fate.NEVER,  # transaction_integrity_constraint_violation: of class 40, not transient
    "40003": Fate.NEVER,  # statement_completion_unknown
    "42P01": Fate.NEVER,  # undefined_table
    "57014": Fate.NEVER,  # query_canceled: somebody wanted it to end
    "53300": Fate.NEVER,  # too_many_connections: more of them would not help
    "XX000": Fate.NEVER,
    "P0001": Fate.NEVER,  # raise_exception
}
