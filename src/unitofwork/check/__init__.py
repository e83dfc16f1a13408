"""`unitofwork check`: the startup validator from the command line."""
