"""What the tests stand on: a proxy, a probe of the server, fixtures."""
