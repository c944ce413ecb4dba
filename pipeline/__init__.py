"""The job: options, plan, graph, ledger, summary, and the command line."""
