"""Everything on one machine: `upwell up`."""
