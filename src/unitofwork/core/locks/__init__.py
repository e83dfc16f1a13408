"""Row locks in one order: taken for `tx.lock...`, before each flush and before bulk statements."""
