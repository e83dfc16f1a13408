"""A mixed load under faults, for as long as `UNITOFWORK_SOAK` says (seconds)."""
