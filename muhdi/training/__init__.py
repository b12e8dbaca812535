"""Training: one iteration, one stage, the sequence, the run directory, sweeps over seeds."""
