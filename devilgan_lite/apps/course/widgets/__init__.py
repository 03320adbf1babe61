"""What a learner can move: explorer, slider, live training, the running scan, a trade-off, and the film."""
