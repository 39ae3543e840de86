"""The statistics room: from paired scores to a verdict. Nothing is imported here, so that a no-op run loads no scipy."""
