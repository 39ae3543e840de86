"""What a run remembers: state, manifests, receipts, submissions, answers, locks and stop requests."""
