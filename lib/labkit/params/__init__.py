"""Everything that can be set: `params/<experiment>.yaml` as typed, frozen sections."""
