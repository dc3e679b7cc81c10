"""Models: candidates, figures, the gate, and what a release is made of."""
