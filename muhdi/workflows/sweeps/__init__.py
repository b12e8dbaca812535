"""The parts of `muhdi.workflows.sweep`: what is run, where, and how far it is."""
