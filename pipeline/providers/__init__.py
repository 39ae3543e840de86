"""Where requests are answered: one small protocol, one module per provider, one queue. Knows requests and shards, no conditions."""
