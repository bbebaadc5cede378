"""Training in several processes: cluster, rendezvous, coordination, distribution strategy."""
