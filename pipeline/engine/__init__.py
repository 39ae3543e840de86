"""doit, extended: durable backend, loader options, run and list commands, reporter, gating, plan."""
