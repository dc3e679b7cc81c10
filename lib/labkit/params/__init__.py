"""All parameters of an experiment: `params/<experiment>.yaml` as typed, frozen sections."""
